"""What proves that a device has what was sent to it, where the broker's word is not enough.

Pure logic: message numbers, consumers and words of the broker in, how many sends are final out.

A clean session proves a send by its dispatch to one of the device's own consumers: MQTT over this broker offers no
more. A persistent one proves it by that and by the broker's word that a durable subscriber acknowledged it (the
device's PUBACK). That word names nobody, so another durable subscriber's looks the same; with the dispatch it proves
never less than a clean session does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kalinka_jms.names import matches
from kalinka_jms.registry.entry import Part


@dataclass(frozen=True, slots=True)
class Listeners:
    """The consumers by which one device listens to one destination on one broker, as the registry knows them."""

    clean: frozenset[str] = frozenset()
    """Those that end with their connection."""
    persistent: frozenset[str] = frozenset()
    """Those of a durable subscription: what they did not acknowledge, they get again."""

    @classmethod
    def of(cls, part: Part | None, destination: str) -> Listeners:
        """Those of a part of the registry's entry that match the JMS destination."""
        filters = [filter for filter in part.filters if matches(filter.topic, destination)] if part else []
        return cls(
            frozenset(filter.consumer for filter in filters if filter.subscription is None),
            frozenset(filter.consumer for filter in filters if filter.subscription is not None),
        )

    def __bool__(self) -> bool:
        return bool(self.clean or self.persistent)


@dataclass(slots=True)
class _Receipt:
    """What the broker said of one send."""

    dispatched: set[str] = field(default_factory=set)
    """The consumers to which it was written."""
    consumed: bool = False
    failed: bool = False
    """Nobody listened there, or it expired."""


class Receipts:
    """The evidence for one run of sends to one device, in their order.

    Final is the longest run at the beginning of which each send is proven: what comes after one that is not must be
    sent again behind it.
    """

    __slots__ = ("_clean", "_first", "_held", "_latest", "_persistent", "_receipts", "gone", "proven")

    def __init__(self, count: int, listeners: Listeners) -> None:
        self._receipts = [_Receipt() for _ in range(count)]
        self._first = self._latest = listeners
        self._held = bool(listeners.persistent)  # by a session that was never clean since
        self._clean, self._persistent = set(listeners.clean), set(listeners.persistent)
        self.gone = not listeners
        """Whether none of those who could still prove something listens any more."""
        self.proven = 0
        """How many at the beginning are final."""

    def __len__(self) -> int:
        return len(self._receipts)

    @property
    def complete(self) -> bool:
        """Whether all are proven."""
        return self.proven == len(self._receipts)

    @property
    def failed(self) -> bool:
        """Whether the next send that is not proven never will be."""
        return not self.complete and self._receipts[self.proven].failed

    @property
    def kept(self) -> list[int]:
        """Those that are not proven and that a persistent session may still hand to its device."""
        if not self._latest.persistent:
            return []
        return [index for index in range(self.proven, len(self)) if not self._receipts[index].failed]

    def dispatched(self, index: int, consumer: str) -> None:
        """The broker wrote send `index` to the socket of a consumer, whoever that is."""
        self._receipts[index].dispatched.add(consumer)

    def consumed(self, index: int) -> None:
        """A durable subscriber acknowledged it. Said of an expired one too."""
        self._receipts[index].consumed = True

    def fail(self, index: int) -> None:
        """Nobody listened there, or it expired: that wins over whatever else is said of it."""
        self._receipts[index].failed = True

    def listen(self, listeners: Listeners) -> None:
        """The registry says who listens now.

        A session that turned clean has lost what waited for it, and so has a clean one that came anew; a persistent
        one that came anew gets it again.
        """
        self._held = self._held and (not listeners or bool(listeners.persistent))
        self.gone = not (listeners.persistent if self._held else self._first.clean & listeners.clean)
        self._clean |= listeners.clean
        self._persistent |= listeners.persistent
        if listeners:
            self._latest = listeners

    def advance(self) -> int:
        """Count what is proven by now; how many more that are."""
        before = self.proven
        while not self.complete and self._proves(self._receipts[self.proven]):
            self.proven += 1
        return self.proven - before

    def _proves(self, receipt: _Receipt) -> bool:
        if receipt.failed:
            return False
        if receipt.consumed and not self._persistent.isdisjoint(receipt.dispatched):
            return True
        return not self._latest.persistent and not self._clean.isdisjoint(receipt.dispatched)
