"""Which sends of one link are proven, and by what.

A link sends a batch and then an echo to itself. The broker's reports of sends that found no consumer come back on the
same subscription as the echo and before it, so the echo proves every send of its batch that was not reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from kalinka_jms.errors import LinkLost

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proof(Generic[T]):
    """One batch whose echo came back: what was sent, and the indices of the sends that no consumer received."""

    items: tuple[T, ...]
    undelivered: frozenset[int]


class _Batch(Generic[T]):
    __slots__ = ("items", "number", "opened", "undelivered")

    def __init__(self, number: int, items: tuple[T, ...], opened: float) -> None:
        self.number = number
        self.items = items
        self.opened = opened
        self.undelivered: set[int] = set()


class Barrier(Generic[T]):
    """The batches of ONE connection that wait for their echo. A new connection needs a new barrier.

    Whatever does not fit (a report or an echo nobody waits for) raises LinkLost: the order that the proofs rest on is
    broken, so nothing more may be believed on this connection.
    """

    __slots__ = ("_batches", "_newest")

    def __init__(self) -> None:
        self._batches: deque[_Batch[T]] = deque()
        self._newest = 0

    def open(self, items: Sequence[T], now: float) -> int:
        """Begin a batch sent at `now` (seconds, monotonic) and return its number: 1, 2, 3, … on this connection."""
        self._newest += 1
        self._batches.append(_Batch(self._newest, tuple(items), now))
        return self._newest

    def report(self, number: int, index: int) -> None:
        """Note that the `index`-th send of batch `number` found no consumer; twice is the same as once.

        Raises LinkLost when that batch does not wait for its echo, or has no such send.
        """
        batch = self._find(number)
        if not 0 <= index < len(batch.items):
            raise LinkLost(f"report for send {index} of batch {number}, which has {len(batch.items)}")
        batch.undelivered.add(index)

    def echo(self, number: int) -> Proof[T]:
        """Close batch `number`: what was not reported by now is delivered. Raises LinkLost unless it is the oldest."""
        if not self._batches or self._batches[0].number != number:
            expected = self._batches[0].number if self._batches else "none"
            raise LinkLost(f"echo {number} came, expected {expected}")
        batch = self._batches.popleft()
        return Proof(batch.items, frozenset(batch.undelivered))

    @property
    def in_flight(self) -> int:
        """How many batches wait for their echo."""
        return len(self._batches)

    @property
    def oldest(self) -> float | None:
        """When the oldest waiting batch was opened (seconds, monotonic); None when none waits."""
        return self._batches[0].opened if self._batches else None

    def abandon(self) -> list[T]:
        """Give up every waiting batch, because the link is lost; returns its items, which nothing proves, in order."""
        items = [item for batch in self._batches for item in batch.items]
        self._batches.clear()
        return items

    def _find(self, number: int) -> _Batch[T]:
        if self._batches:
            # Numbers are consecutive, so the place in the queue follows from the number.
            place = number - self._batches[0].number
            if 0 <= place < len(self._batches):
                return self._batches[place]
        raise LinkLost(f"report for batch {number}, which does not wait for an echo")
