"""One device's order for one Kafka topic.

A device has records in at most one batch in flight; throughput comes from batching across devices. What is in flight
stays at the head of the lane until it is settled, so going back never has to put anything back in place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """The records of one device and one Kafka topic that have no outcome yet, in order.

    `held` is for the owner to set: a held lane hands out nothing (its owner is unknown, its backlog is being loaded).
    """

    __slots__ = ("_flying", "_items", "_since", "held")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._flying = 0  # how many at the head are in flight
        self._since: float | None = None
        self.held = False

    def push(self, item: T, now: float) -> None:
        """Append one at `now` (seconds, monotonic)."""
        if not self._items:
            self._since = now
        self._items.append(item)

    def take(self, limit: int, max_bytes: int, size: Callable[[T], int]) -> list[T]:
        """Put up to `limit` items of together at most `max_bytes` in flight and return them, in order.

        Empty while something is in flight or the lane is held. The first item is taken whatever its size: a record
        larger than the window must not stand for ever.
        """
        if self._flying or self.held or limit < 1:
            return []
        if len(self._items) == 1:
            self._flying = 1
            return [self._items[0]]
        taken: list[T] = []
        room = max_bytes
        for item in islice(self._items, limit):
            room -= size(item)
            if room < 0 and taken:
                break
            taken.append(item)
        self._flying = len(taken)
        return taken

    def settle(self, undelivered: Collection[int], now: float) -> tuple[list[T], list[T]]:
        """Close what is in flight, knowing the indices (of what `take` returned) that reached nobody.

        Returns (delivered, returned): the items before the first undelivered one leave as delivered; all from it on
        stay at the head, in order, to be sent again with the same ids. Sending only the undelivered ones again would
        put them behind their successors for good.
        """
        flying, self._flying = self._flying, 0
        count = next((index for index in range(flying) if index in undelivered), flying) if undelivered else flying
        returned = list(islice(self._items, count, flying)) if count < flying else []
        delivered = [self._items.popleft() for _ in range(count)]
        if delivered:
            self._since = now if self._items else None
        return delivered, returned

    def advance(self, count: int, now: float) -> list[T]:
        """The first `count` in flight are delivered and leave; the others stay in flight."""
        delivered = [self._items.popleft() for _ in range(min(count, self._flying))]
        self._flying -= len(delivered)
        if delivered:
            self._since = now if self._items else None
        return delivered

    def pop(self, now: float) -> T:
        """Remove the head, which is not in flight, and return it: it has its outcome."""
        self._since = now if len(self._items) > 1 else None
        return self._items.popleft()

    def give_back(self) -> int:
        """The link is lost: what was in flight waits at the head again, order kept. Returns how many that are."""
        count, self._flying = self._flying, 0
        return count

    def drain(self) -> list[T]:
        """Remove everything that is not in flight and return it, in order: to be parked.

        While something is in flight it may still come back to the head; park only after it was settled or given back,
        or what is parked first is not what comes first.
        """
        drained = list(islice(self._items, self._flying, None))
        for _ in drained:
            self._items.pop()
        if not self._items:
            self._since = None
        return drained

    def discard(self, over: Callable[[T], bool], now: float) -> list[T]:
        """Remove every item that is not in flight and is `over`, and return them, in order."""
        head, flying = self.head, self._flying
        found = [item for item in islice(self._items, flying, None) if over(item)]
        if found:
            kept = (item for place, item in enumerate(self._items) if place < flying or not over(item))
            self._items = deque(kept)
            if self.head is not head:
                self._since = now if self._items else None
        return found

    @property
    def items(self) -> tuple[T, ...]:
        """Everything it holds, in order."""
        return tuple(self._items)

    @property
    def head(self) -> T | None:
        """The first item, in flight or not; None where there is none."""
        return self._items[0] if self._items else None

    @property
    def waiting_since(self) -> float | None:
        """When the head became the head (seconds, monotonic); None while it is in flight or there is none.

        Neither an attempt without delivery nor a lost link starts the time anew: a head that is tried and tried again
        must run into its time-out too.
        """
        return None if self._flying else self._since

    @property
    def in_flight(self) -> int:
        """How many items are in flight."""
        return self._flying

    @property
    def idle(self) -> bool:
        """True when nothing is queued and nothing is in flight: the lane may be forgotten."""
        return not self._items

    def __len__(self) -> int:
        """How many items have no outcome yet, those in flight included."""
        return len(self._items)

    def __bool__(self) -> bool:
        """A lane is itself, empty or not: `if lane:` must not drop the empty ones."""
        return True
