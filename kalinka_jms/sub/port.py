"""One broker as the dispatcher sees it: what is ready for it, and what is in flight on its present connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kalinka_jms.config.settings import Sub
from kalinka_jms.errors import LinkLost
from kalinka_jms.sub.barrier import Barrier
from kalinka_jms.sub.outlet import Outlet
from kalinka_jms.sub.sends import encode
from kalinka_jms.sub.share import Item, State, Stream

TRANSACTION_BYTES = 1024 * 1024
"""Bytes of payload after which a transaction takes no further record."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of sends of one stream within a transaction, and those of them that nobody received, from 0."""

    stream: Stream
    items: Sequence[Item]
    absent: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Flight:
    """A transaction that waits for its echo."""

    segments: list[tuple[Stream, int, int]]
    """Each stream with the place of its first item, and how many it has."""
    places: set[int]
    """The routes that it has sends of."""
    silent: set[int]
    """Those of them whose canary the broker has not reported so far."""


class Port:
    """What is ready for one broker or in flight there. A new connection proves nothing of what the last one sent."""

    def __init__(self, name: str, outlet: Outlet, now: float) -> None:
        self.name = name
        self.down_since = now
        self._outlet = outlet
        self._identity = ""
        self._barrier: Barrier[Item] = Barrier()
        self._flights: dict[int, _Flight] = {}
        self._ready: deque[Stream] = deque()

    @property
    def up(self) -> bool:
        return bool(self._identity)

    @property
    def in_flight(self) -> int:
        """Transactions that wait for their echo."""
        return self._barrier.in_flight

    @property
    def oldest(self) -> float | None:
        """When the oldest of them was written."""
        return self._barrier.oldest

    @property
    def ready(self) -> list[Stream]:
        """Streams that wait for a place in a transaction."""
        return [stream for stream in self._ready if self._waits(stream)]

    def flying(self) -> Iterator[Stream]:
        """Streams that have items in flight."""
        return (stream for flight in self._flights.values() for stream, _, _ in flight.segments)

    def speaks(self, identity: str) -> bool:
        """Whether that is the present connection."""
        return identity == self._identity != ""

    def rise(self, identity: str) -> None:
        """A new connection stands; `fall` came before."""
        self._identity, self._barrier = identity, Barrier()

    def fall(self, now: float) -> list[Stream]:
        """The connection is gone: nothing in flight is proven any more, and it stands at the head of its stream again.

        Returns the streams that were in flight or ready here.
        """
        streams = [*self.flying(), *self.ready]
        for stream in streams:
            stream.lane.give_back()
            stream.state = State.IDLE
        self._identity, self.down_since = "", now
        self._flights.clear()
        self._ready.clear()
        self._barrier.abandon()
        return streams

    def drop(self, reason: str) -> None:
        """End the present connection."""
        self._outlet.drop(self._identity, reason)

    def queue(self, stream: Stream) -> None:
        """The stream is ready."""
        stream.state, stream.port = State.READY, self.name
        self._ready.append(stream)

    def depart(self, settings: Sub, canaries: Sequence[bytes], now: float) -> bool:
        """Write one transaction of what is ready; False where that is nothing."""
        items, segments = self._collect(settings.transaction)
        if not items:
            return False
        places = {item.route for item in items}
        number = self._barrier.open(items, now)
        self._flights[number] = _Flight(segments, places, set(places))
        own = [(place, canaries[place]) for place in sorted(places)]
        self._outlet.write(self._identity, encode(self._identity, number, [item.send for item in items], own))
        return True

    def report(self, number: int, index: int) -> None:
        """Nobody received that send. Raises LinkLost where there is none such."""
        self._barrier.report(number, index)

    def report_canary(self, number: int, place: int) -> None:
        """The broker reports absence on that route. Raises LinkLost where no such transaction is in flight."""
        if number not in self._flights:
            raise LinkLost(f"report for a canary of batch {number}, which does not wait for an echo")
        self._flights[number].silent.discard(place)

    def land(self, number: int) -> tuple[list[Segment], set[int], set[int]]:
        """The transaction went through: what came of it, its routes, and those where absence was not seen.

        Raises LinkLost unless it is the oldest in flight.
        """
        proof = self._barrier.echo(number)
        flight = self._flights.pop(number)
        segments = [
            Segment(
                stream,
                proof.items[start : start + count],
                frozenset(index - start for index in proof.undelivered if start <= index < start + count),
            )
            for stream, start, count in flight.segments
        ]
        return segments, flight.places, flight.silent

    def _waits(self, stream: Stream) -> bool:
        """Whether it waits here still: it may have been parked, or be ready elsewhere."""
        return stream.state is State.READY and stream.port == self.name

    def _collect(self, limit: int) -> tuple[list[Item], list[tuple[Stream, int, int]]]:
        items: list[Item] = []
        segments: list[tuple[Stream, int, int]] = []
        room = TRANSACTION_BYTES
        while self._ready and len(items) < limit and (room > 0 or not items):
            stream = self._ready.popleft()
            if not self._waits(stream):
                continue
            stream.state = State.IDLE
            if stream.share.closing or not stream.share.open:
                continue
            taken = stream.lane.take(limit - len(items), max(room, 0), _size)
            if taken:
                stream.state = State.FLYING
                segments.append((stream, len(items), len(taken)))
                items.extend(taken)
                room -= sum(map(_size, taken))
        return items, segments


def _size(item: Item) -> int:
    return item.size
