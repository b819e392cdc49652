"""One broker as the dispatcher sees it: what is ready for it, and what is in flight on its present connection."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from math import inf
from operator import attrgetter
from typing import Protocol

from kalinka_jms.config.settings import Sub
from kalinka_jms.errors import LinkLost
from kalinka_jms.sub.barrier import Barrier
from kalinka_jms.sub.flight import Flight, Landing, Segment
from kalinka_jms.sub.outlet import Outlet
from kalinka_jms.sub.parcels import Parcel, Parcels
from kalinka_jms.sub.receipts import Listeners, Receipts
from kalinka_jms.sub.sends import encode
from kalinka_jms.sub.share import Item, State, Stream
from kalinka_jms.sub.trial import Trial, Turn

log = logging.getLogger("kalinka.sub")

SIZE = attrgetter("size")

_NONE: frozenset[int] = frozenset()

TRANSACTION_BYTES = 1024 * 1024
"""Bytes of payload after which a transaction takes no further record."""

UNCONFIRMED = 5000
"""Sends on one connection that may wait for their devices, about: of each the broker says two things or more on the
subscription that brings the echo, and what exceeds that subscription's prefetch (32,767) may be lost where the broker
has a limit for what is pending."""


class Rules(Protocol):
    """What a port asks about streams that are about to be sent, or wait for their devices."""

    def freshen(self, stream: Stream, now: float) -> None: ...

    def allowance(self, broker: str, stream: Stream) -> int: ...

    def listeners(self, broker: str, device: str, destination: str) -> Listeners: ...


class Port:
    """What is ready for one broker or in flight there. A new connection proves nothing of what the last one sent."""

    def __init__(self, name: str, outlet: Outlet, now: float) -> None:
        self.name = name
        self.down_since = now
        self._outlet = outlet
        self._identity = ""
        self._barrier: Barrier[Item] = Barrier()
        self._flights: dict[int, Flight] = {}
        self._trial: Trial[Stream] = Trial()
        self._messages = 0  # sent on this connection
        self._tickets = count()
        self._ready: deque[tuple[int, Stream]] = deque()
        self._ready_for_device: deque[tuple[int, Stream]] = deque()
        self._doubted: list[Parcel] = []
        self.parcels = Parcels()
        """What waits for its device."""

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
        return [stream for _, stream in (*self._ready, *self._ready_for_device) if self._waits(stream)]

    def flying(self) -> Iterator[Stream]:
        """Streams that have items in flight."""
        for flight in self._flights.values():
            yield from (stream for stream, _, _ in flight.segments)
        yield from (parcel.stream for parcel in self.parcels if parcel.landed)

    def speaks(self, identity: str) -> bool:
        """Whether that is the present connection."""
        return identity == self._identity != ""

    def rise(self, identity: str) -> None:
        """A new connection stands; `fall` came before."""
        self._identity, self._barrier, self._messages = identity, Barrier(), 0
        self.parcels.clear()
        self._trial.rose()

    def fall(self, now: float) -> list[Stream]:
        """The connection is gone: nothing in flight is proven any more, and it stands at the head of its stream again.

        Returns the streams that were in flight or ready here.
        """
        streams = list(dict.fromkeys((*self.flying(), *self.ready)))
        for stream in streams:
            stream.lane.give_back()
            stream.state = State.IDLE
        self._identity, self.down_since = "", now
        self._flights.clear()
        self._ready.clear()
        self._ready_for_device.clear()
        self._doubted.clear()
        self._barrier.abandon()
        return streams

    def blame(self) -> Stream | None:
        """The broker ended the connection, `fall` comes next: the stream whose head did that, once it is certain."""
        before = self._trial.active
        culprit = self._trial.broke([run for flight in self._flights.values() for run in flight.runs])
        if self._trial.active and not before:
            log.info("the link broke under records: looking whether one of them did it", extra={"broker": self.name})
        return culprit

    def drop(self, reason: str) -> None:
        """End the present connection."""
        self._outlet.drop(self._identity, reason)

    def queue(self, stream: Stream) -> None:
        """The stream is ready."""
        stream.state, stream.port = State.READY, self.name
        head = stream.lane.head
        ready = self._ready_for_device if head is not None and head.way.by_device else self._ready
        ready.append((next(self._tickets), stream))

    def depart(self, settings: Sub, canaries: Sequence[bytes], rules: Rules, now: float) -> bool:
        """Write one transaction of what is ready; False where that is nothing."""
        if self._trial.active:
            return not self._flights and self._depart_by_turns(settings, canaries, rules, now)
        items, segments = self._collect(settings.transaction, rules, now)
        if not items and not self._doubted:
            return False
        self._write(items, segments, {item.way.place for item in items}, canaries, rules, now)
        return True

    def _depart_by_turns(self, settings: Sub, canaries: Sequence[bytes], rules: Rules, now: float) -> bool:
        """Somebody is under suspicion of breaking the link: who goes next is for the trial to say."""
        while self._trial.active:
            turn = self._trial.turn
            places = set(range(len(canaries)))
            items, segments = ([], []) if turn is Turn.CHECK else self._collect(settings.transaction, rules, now, turn)
            if items or turn is Turn.CHECK:
                self._trial.sent(turn)
                self._write(items, segments, {item.way.place for item in items} or places, canaries, rules, now)
                return True
            self._trial.none(turn)
        return self.depart(settings, canaries, rules, now)

    def _write(
        self,
        items: list[Item],
        segments: list[tuple[Stream, int, int]],
        places: set[int],
        canaries: Sequence[bytes],
        rules: Rules,
        now: float,
    ) -> None:
        number = self._barrier.open(items, now)
        own = [(place, canaries[place]) for place in sorted(places)]
        self._entrust(items, segments, rules, now)
        self._messages += len(items) + len(own) + 1
        self._flights[number] = Flight(segments, places, set(places), self._messages, self._doubted)
        self._doubted = []
        self._outlet.write(self._identity, encode(self._identity, number, items, own))

    def doubt(self, parcel: Parcel) -> None:
        """Its device seems to be gone: have an echo come back, for what the broker said of it may be on the way."""
        parcel.doubted = True
        self._doubted.append(parcel)

    def report(self, number: int, index: int) -> None:
        """Nobody received that send. Raises LinkLost where there is none such."""
        self._barrier.report(number, index)

    def report_canary(self, number: int, place: int) -> None:
        """The broker reports absence on that route. Raises LinkLost where no such transaction is in flight."""
        if number not in self._flights:
            raise LinkLost(f"report for a canary of batch {number}, which does not wait for an echo")
        self._flights[number].silent.discard(place)

    def land(self, number: int, message: int) -> Landing:
        """The transaction went through; its echo was that message of the connection.

        Raises LinkLost unless it is the oldest in flight, or where the broker numbers messages in another way.
        """
        proof = self._barrier.echo(number)
        flight = self._flights.pop(number)
        if self._trial.active:
            self._trial.landed(flight.runs)
        landing = Landing([], [], flight.doubted, flight.places, flight.silent)
        lost = proof.undelivered
        for stream, start, size in flight.segments:
            absent = frozenset(index - start for index in lost if start <= index < start + size) if lost else _NONE
            parcel = self.parcels.at(stream)
            if parcel is None:
                landing.segments.append(Segment(stream, proof.items[start : start + size], absent))
            else:
                self._confirm_numbers(flight, message)
                for index in absent:
                    parcel.receipts.fail(index)
                landing.parcels.append(parcel)
        return landing

    def _confirm_numbers(self, flight: Flight, message: int) -> None:
        if message != flight.echo:
            raise LinkLost(f"the broker calls message {flight.echo} of this link {message}: no word about it is proof")

    def _entrust(self, items: list[Item], segments: list[tuple[Stream, int, int]], rules: Rules, now: float) -> None:
        """Note which of the sends that go out now are final by their devices' evidence only."""
        for stream, start, size in segments:
            way = items[start].way
            if way.by_device:
                listeners = rules.listeners(self.name, stream.device, way.destination)
                first = self._messages + 1 + start
                self.parcels.add(Parcel(stream, way.destination, first, Receipts(size, listeners), now))

    def _waits(self, stream: Stream) -> bool:
        """Whether it waits here still: it may have been parked, or be ready elsewhere."""
        return stream.state is State.READY and stream.port == self.name

    def _next(self) -> Stream | None:
        """Take the stream that has been ready longest, of those there is room for."""
        ready, waiting = self._ready, self._ready_for_device
        if waiting and self.parcels.sends < UNCONFIRMED and (not ready or waiting[0][0] < ready[0][0]):
            ready = self._ready_for_device
        return ready.popleft()[1] if ready else None

    def _collect(
        self, limit: int, rules: Rules, now: float, turn: Turn | None = None
    ) -> tuple[list[Item], list[tuple[Stream, int, int]]]:
        items: list[Item] = []
        passed: list[Stream] = []  # whose turn it is not
        segments: list[tuple[Stream, int, int]] = []
        room = TRANSACTION_BYTES
        while len(items) < limit and (room > 0 or not items):
            stream = self._next()
            if stream is None:
                break
            if not self._waits(stream):
                continue
            if turn is not None and not self._turn_of(stream, turn):
                passed.append(stream)
                continue
            stream.state = State.IDLE
            if stream.share.closing or not stream.share.open:
                continue
            if stream.expires < inf or stream.share.drops:
                rules.freshen(stream, now)
            head = stream.lane.head
            most = rules.allowance(self.name, stream) if head is not None and head.way.by_device else limit
            most = min(most, self._trial.share(stream)) if turn is Turn.SUSPECTS else most
            taken = stream.lane.take(min(limit - len(items), most), max(room, 0), SIZE)
            if taken:
                stream.state = State.FLYING
                segments.append((stream, len(items), len(taken)))
                items.extend(taken)
                room -= sum(map(SIZE, taken))
        for stream in passed:
            self.queue(stream)
        return items, segments

    def _turn_of(self, stream: Stream, turn: Turn) -> bool:
        return self._trial.share(stream) > 0 if turn is Turn.SUSPECTS else not self._trial.suspects(stream)
