"""Sends what streams hold to the brokers that own the devices, and settles it by the evidence that comes back.

It never waits and has no thread: `sub` calls it with records, with events of the outlets, and with the time (seconds,
monotonic). What it decides goes out through `Outcomes`.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kalinka_jms.barrier import Barrier
from kalinka_jms.entry import Entry
from kalinka_jms.errors import LinkLost
from kalinka_jms.outlet import LinkDown, LinkUp, Outlet, Proofs
from kalinka_jms.registry import UNKNOWN, Owners
from kalinka_jms.sends import CanaryReport, Echo, Evidence, encode
from kalinka_jms.settings import Sub
from kalinka_jms.share import Item, Share, State, Stream

log = logging.getLogger("kalinka.sub")

TRANSACTION_BYTES = 1024 * 1024
"""Bytes of payload after which a transaction takes no further record."""


class Outcomes(Protocol):
    """What the dispatcher decides."""

    def delivered(self, stream: Stream, items: Sequence[Item]) -> None: ...

    def park(self, stream: Stream, *, retry: bool) -> None:
        """Park all of the stream. `retry`: the registry says that it listens, so no event may announce the change."""

    def move(self, stream: Stream, group: str) -> None:
        """Hand all of the stream to another group."""

    def drained(self, stream: Stream) -> None:
        """The stream has nothing to send any more."""


@dataclass(slots=True)
class _Segment:
    """A run of sends of one stream within a transaction."""

    stream: Stream
    start: int
    count: int


@dataclass(slots=True)
class _Flight:
    """A transaction that waits for its echo."""

    segments: list[_Segment]
    canaries: set[int]
    """Places of the canaries that the broker has not reported so far."""


@dataclass(slots=True)
class Port:
    """One broker: its outlet, and what is ready for it or in flight on its present connection."""

    name: str
    outlet: Outlet
    down_since: float
    identity: str = ""
    barrier: Barrier[Item] = field(default_factory=Barrier)
    flights: dict[int, _Flight] = field(default_factory=dict)
    ready: deque[Stream] = field(default_factory=deque)
    hidden: set[int] = field(default_factory=set)
    """Places of the canaries that somebody receives: there the broker does not report absence."""

    @property
    def up(self) -> bool:
        return bool(self.identity)


class Dispatcher:
    """Decides where each stream goes, and what its sends have come to."""

    def __init__(
        self,
        settings: Sub,
        outlets: Mapping[str, Outlet],
        groups: Mapping[str, str],
        canaries: Sequence[bytes],
        owners: Owners,
        outcomes: Outcomes,
        now: float,
    ) -> None:
        """`groups`: broker → group, of all brokers; `canaries`: the prefix of a SEND that nobody receives, by route."""
        self._settings = settings
        self._groups = groups
        self._canaries = canaries
        self._owners = owners
        self._outcomes = outcomes
        self._ports = {name: Port(name, outlet, now) for name, outlet in outlets.items()}
        self._waiting: defaultdict[str, set[Stream]] = defaultdict(set)

    # --- streams

    def send(self, stream: Stream, now: float) -> None:
        """See what can be done for a stream that holds something: ready for a broker, waiting, parked or moved."""
        if stream.state is State.FLYING or stream.state is State.READY:
            return
        if stream.share.closing or not stream.share.open:
            return
        head = stream.lane.head
        if head is None:
            self._idle(stream)
            return
        entry = self._owners.get(stream.device)
        if entry is UNKNOWN:
            self._wait(stream)
        else:
            self._route(stream, entry or Entry(), head, now)

    def owner_changed(self, device: str, now: float) -> None:
        """The registry says something new about a device."""
        for stream in self._waiting.pop(device, ()):
            stream.state = State.IDLE
            stream.tried.clear()
            self.send(stream, now)

    def reachable(self, entry: Entry | None, destination: str) -> bool:
        """Whether a send to the destination could be tried now."""
        names = entry.owners(destination) if entry else ()
        return any(self._ports[name].up if name in self._ports else name in self._groups for name in names)

    def expire(self, now: float) -> None:
        """Park what has waited too long; drop links whose echo has not come in time."""
        limit = now - self._settings.ack_timeout
        waiting = [stream for streams in self._waiting.values() for stream in streams]
        ready = [stream for port in self._ports.values() for stream in port.ready if stream.state is State.READY]
        for stream in waiting + ready:
            since = stream.lane.waiting_since
            if since is not None and since < limit:
                self._leave(stream)
                self._outcomes.park(stream, retry=True)
        for port in self._ports.values():
            oldest = port.barrier.oldest
            if port.up and oldest is not None and oldest < now - self._settings.echo_timeout:
                port.outlet.drop(port.identity, "an echo did not come back in time")

    def close(self, share: Share) -> None:
        """Forget the streams of a share that ended."""
        for stream in share.streams.values():
            if stream.state is not State.FLYING:
                self._leave(stream)

    def flying(self, shares: Sequence[Share]) -> bool:
        """Whether something of these shares waits for its echo."""
        return any(
            segment.stream.share in shares
            for port in self._ports.values()
            for flight in port.flights.values()
            for segment in flight.segments
        )

    @property
    def in_flight(self) -> int:
        """Transactions that wait for their echo."""
        return sum(port.barrier.in_flight for port in self._ports.values())

    @property
    def links(self) -> dict[str, bool]:
        """Broker → whether its link is up."""
        return {name: port.up for name, port in self._ports.items()}

    # --- links

    def event(self, event: LinkUp | LinkDown | Proofs, now: float) -> None:
        """Take in what happened on a link; what belongs to an older connection proves nothing."""
        port = self._ports[event.broker]
        if isinstance(event, LinkUp):
            if port.up:  # its LinkDown is still on the way
                self._lost(port, now)
            port.identity, port.barrier = event.identity, Barrier()
            self._again(now)
        elif event.identity == port.identity:
            if isinstance(event, LinkDown):
                self._lost(port, now)
            else:
                self._evidence(port, event.evidence, now)

    def pump(self, now: float) -> None:
        """Write transactions while there is something ready and room in flight."""
        for port in self._ports.values():
            while port.ready and port.up and port.barrier.in_flight < self._settings.transactions_in_flight:
                if not self._transaction(port, now):
                    break

    # --- inside

    def _route(self, stream: Stream, entry: Entry, head: Item, now: float) -> None:
        stranded = False
        owners = entry.owners(head.destination)
        for name in owners:
            port = self._ports.get(name)
            if name in stream.tried:
                continue
            if port is None:
                if name in self._groups:
                    self._outcomes.move(stream, self._groups[name])
                    return
            elif port.up:
                self._ready(stream, port)
                return
            else:
                stranded = stranded or now - port.down_since < self._settings.ack_timeout
        if stranded:
            self._wait(stream)
        else:
            self._outcomes.park(stream, retry=bool(owners))

    def _ready(self, stream: Stream, port: Port) -> None:
        stream.state, stream.port = State.READY, port.name
        port.ready.append(stream)

    def _wait(self, stream: Stream) -> None:
        stream.state = State.WAITING
        self._waiting[stream.device].add(stream)

    def _idle(self, stream: Stream) -> None:
        stream.state = State.IDLE
        stream.tried.clear()
        self._outcomes.drained(stream)

    def _leave(self, stream: Stream) -> None:
        """Take a stream out of whatever it waits in."""
        if stream.state is State.WAITING:
            self._waiting[stream.device].discard(stream)
            if not self._waiting[stream.device]:
                del self._waiting[stream.device]
        stream.state = State.IDLE  # a port it was ready for passes over it

    def _again(self, now: float) -> None:
        """A link came up: look again at every stream that waits."""
        for device in list(self._waiting):
            self.owner_changed(device, now)

    def _transaction(self, port: Port, now: float) -> bool:
        items, segments = self._collect(port)
        if not items:
            return False
        number = port.barrier.open(items, now)
        places = sorted({item.route for item in items})
        port.flights[number] = _Flight(segments, set(places))
        canaries = [(place, self._canaries[place]) for place in places]
        port.outlet.write(port.identity, encode(port.identity, number, [item.send for item in items], canaries))
        return True

    def _collect(self, port: Port) -> tuple[list[Item], list[_Segment]]:
        items: list[Item] = []
        segments: list[_Segment] = []
        room = TRANSACTION_BYTES
        while port.ready and len(items) < self._settings.transaction and (room > 0 or not items):
            stream = port.ready.popleft()
            if stream.state is not State.READY or stream.port != port.name:
                continue
            stream.state = State.IDLE
            if not stream.share.open or stream.share.closing:
                continue
            taken = stream.lane.take(self._settings.transaction - len(items), max(room, 0), _size)
            if taken:
                stream.state = State.FLYING
                segments.append(_Segment(stream, len(items), len(taken)))
                items.extend(taken)
                room -= sum(map(_size, taken))
        return items, segments

    def _evidence(self, port: Port, evidence: Sequence[Evidence], now: float) -> None:
        try:
            for proof in evidence:
                if isinstance(proof, Echo):
                    self._proven(port, proof.transaction, now)
                elif isinstance(proof, CanaryReport):
                    port.flights[proof.transaction].canaries.discard(proof.place)
                else:
                    port.barrier.report(proof.transaction, proof.index)
        except (LinkLost, KeyError) as error:
            port.outlet.drop(port.identity, f"evidence out of order: {error}")

    def _proven(self, port: Port, number: int, now: float) -> None:
        proof = port.barrier.echo(number)
        flight = port.flights.pop(number)
        self._watch_canaries(port, flight, {item.route for item in proof.items})
        for segment in flight.segments:
            absent = {index - segment.start for index in proof.undelivered} if proof.undelivered else set()
            if flight.canaries:
                absent |= self._presumed_absent(port, proof.items, segment, flight.canaries)
            self._settle(port, segment, absent, now)

    def _settle(self, port: Port, segment: _Segment, absent: set[int], now: float) -> None:
        stream = segment.stream
        stream.state = State.IDLE
        if not stream.share.open:
            return
        delivered, returned = stream.lane.settle(absent, now)
        if delivered:
            self._outcomes.delivered(stream, delivered)
            stream.tried.clear()
        if returned:
            stream.tried.add(port.name)
        self.send(stream, now)

    def _lost(self, port: Port, now: float) -> None:
        """Nothing in flight is proven any more: it goes back to the head of its stream, to be sent again."""
        port.identity, port.down_since = "", now
        flights, ready = list(port.flights.values()), list(port.ready)
        port.flights.clear()
        port.ready.clear()
        port.hidden.clear()
        port.barrier.abandon()
        streams = [segment.stream for flight in flights for segment in flight.segments]
        for stream in streams:
            stream.lane.give_back()
        for stream in streams + ready:
            stream.state = State.IDLE
            self.send(stream, now)

    def _watch_canaries(self, port: Port, flight: _Flight, places: set[int]) -> None:
        for place in places & flight.canaries - port.hidden:
            log.error(
                "absence is hidden: a client on this broker subscribes to a filter over other devices' topics; "
                "only the registry's word counts until it leaves",
                extra={"broker": port.name, "route": place},
            )
        port.hidden -= places - flight.canaries
        port.hidden |= flight.canaries

    def _presumed_absent(self, port: Port, items: Sequence[Item], segment: _Segment, hidden: set[int]) -> set[int]:
        """Where the broker hides absence, a send counts only if the registry still names this broker as an owner."""
        entry = self._owners.get(segment.stream.device)
        known = entry if isinstance(entry, Entry) else Entry()
        return {
            index
            for index, item in enumerate(items[segment.start : segment.start + segment.count])
            if item.route in hidden and port.name not in known.owners(item.destination)
        }


def _size(item: Item) -> int:
    return item.size
