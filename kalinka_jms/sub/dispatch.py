"""Sends what streams hold to the brokers that own the devices, and settles it by the evidence that comes back.

It never waits and has no thread: `streams` calls it with records, with events of the outlets, and with the time
(seconds, monotonic). What it decides goes out through `Outcomes`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from kalinka_jms.config.settings import Sub
from kalinka_jms.errors import LinkLost
from kalinka_jms.registry import UNKNOWN, Directory
from kalinka_jms.registry.entry import Entry
from kalinka_jms.sub.custody import Custody
from kalinka_jms.sub.decisions import Outcomes
from kalinka_jms.sub.flight import Landing, Segment
from kalinka_jms.sub.outlet import LinkDown, LinkUp, Outlet, Proofs
from kalinka_jms.sub.parcels import Parcel
from kalinka_jms.sub.port import Port
from kalinka_jms.sub.sends import CanaryReport, Echo, Evidence, Report
from kalinka_jms.sub.share import Item, Share, State, Stream

log = logging.getLogger("kalinka.sub")


class Dispatcher:
    """Decides where each stream goes, and what its sends have come to."""

    def __init__(
        self,
        settings: Sub,
        ports: Mapping[str, Outlet],
        groups: Mapping[str, str],
        canaries: Sequence[bytes],
        patience: Callable[[Stream], float],
        owners: Directory,
        outcomes: Outcomes,
        now: float,
    ) -> None:
        """`groups`: broker → group, of all brokers; `canaries`: the prefix of a SEND that nobody receives, by route;
        `patience`: seconds that the head of a stream may wait before it is parked."""
        self._settings = settings
        self._groups = groups
        self._canaries = canaries
        self._patience = patience
        self._owners = owners
        self._outcomes = outcomes
        self._ports = {name: Port(name, outlet, now) for name, outlet in ports.items()}
        self._custody = Custody(owners, patience, outcomes, self.send)
        self._hidden: defaultdict[str, set[int]] = defaultdict(set)  # broker → routes where it reports no absence
        self._waiting: defaultdict[str, set[Stream]] = defaultdict(set)  # device → streams

    # --- streams

    def send(self, stream: Stream, now: float) -> None:
        """See what can be done for a stream that holds something: ready for a broker, waiting, parked or moved."""
        if stream.state is State.FLYING or stream.state is State.READY:
            return
        if stream.share.closing or not stream.share.open:
            return
        if stream.state is not State.IDLE:
            self._leave(stream)
        head = stream.lane.head
        if head is None:
            stream.tried.clear()
            self._outcomes.drained(stream)
            return
        entry = self._owners.get(stream.device)
        if entry is UNKNOWN:
            self._wait(stream)
        else:
            self._route(stream, entry or Entry(), head, now)

    def owner_changed(self, device: str, now: float) -> None:
        """The registry says something new about a device."""
        self._custody.changed(self._ports.values(), device, now)
        for stream in tuple(self._waiting.get(device, ())):
            stream.tried.clear()
            self.send(stream, now)

    def reachable(self, entry: Entry, destination: str) -> bool:
        """Whether a send to the destination could be tried now."""
        names = entry.owners(destination)
        return any(self._ports[name].up if name in self._ports else name in self._groups for name in names)

    def expire(self, now: float) -> None:
        """Park what has waited too long; drop links whose echo has not come in time."""
        waiting = [stream for streams in self._waiting.values() for stream in streams]
        for stream in waiting + [stream for port in self._ports.values() for stream in port.ready]:
            since = stream.lane.waiting_since
            if since is not None and since < now - self._patience(stream):
                self._leave(stream)
                self._outcomes.park(stream, now, retry=True)
        for port in self._ports.values():
            self._custody.expire(port, now)
            oldest = port.oldest
            if oldest is not None and oldest < now - self._settings.echo_timeout:
                self._distrust(port, "an echo did not come back in time", now)

    def hasten(self, shares: Sequence[Share], now: float) -> None:
        """Park at once what waits in these shares: they are about to end, and what came later may be delivered."""
        for stream in [stream for streams in self._waiting.values() for stream in streams if stream.share in shares]:
            self._leave(stream)
            self._outcomes.park(stream, now, retry=True)
        for port in self._ports.values():
            self._custody.hasten(port, shares, now)

    def close(self, share: Share) -> None:
        """Forget the streams of a share that ended."""
        for stream in share.streams.values():
            if stream.state is not State.FLYING:
                self._leave(stream)
        for port in self._ports.values():
            self._custody.close(port, share)

    def flying(self, shares: Sequence[Share]) -> bool:
        """Whether something of these shares waits for its echo or its device."""
        return any(stream.share in shares for port in self._ports.values() for stream in port.flying())

    @property
    def in_flight(self) -> int:
        """Transactions that wait for their echo."""
        return sum(port.in_flight for port in self._ports.values())

    @property
    def unconfirmed(self) -> int:
        """Sends that wait for their device."""
        return sum(port.parcels.sends for port in self._ports.values())

    @property
    def left_behind(self) -> int:
        """Sends given up so far of which a persistent session may still hand a copy to its device."""
        return self._custody.left_behind

    @property
    def late_copies(self) -> dict[str, int]:
        """Broker → those of them that were acknowledged there afterwards, as far as that can be seen."""
        return {name: port.parcels.late for name, port in self._ports.items() if port.parcels.late}

    @property
    def links(self) -> dict[str, bool]:
        """Broker → whether its link is up."""
        return {name: port.up for name, port in self._ports.items()}

    @property
    def hidden(self) -> dict[str, int]:
        """Broker → routes on which it does not report that nobody listens."""
        return {name: len(places) for name, places in self._hidden.items() if places}

    # --- links

    def event(self, event: LinkUp | LinkDown | Proofs, now: float) -> None:
        """Take in what happened on a link; what belongs to an older connection proves nothing."""
        port = self._ports[event.broker]
        if isinstance(event, LinkUp):
            if port.up:  # its LinkDown is still on the way
                self._lost(port, now)
            port.rise(event.identity)
            for device in list(self._waiting):
                self.owner_changed(device, now)
        elif port.speaks(event.identity):
            if isinstance(event, LinkDown):
                self._lost(port, now, event)
            else:
                self._evidence(port, event.evidence, now)

    def pump(self, now: float) -> None:
        """Write transactions while there is something ready and room in flight."""
        for port in self._ports.values():
            while port.up and port.in_flight < self._settings.transactions_in_flight:
                if not port.depart(self._settings, self._canaries, self._custody, now):
                    break

    # --- inside

    def _route(self, stream: Stream, entry: Entry, head: Item, now: float) -> None:
        stranded = False
        way = head.way
        if way.owners[0] is not entry:
            way.owners = entry, entry.owners(way.destination)
        owners = way.owners[1]
        for name in owners:
            port = self._ports.get(name)
            if name in stream.tried:
                continue
            if port is None:
                if name in self._groups:
                    self._outcomes.move(stream, self._groups[name], now)
                    return
            elif port.up:
                port.queue(stream)
                return
            else:
                stranded = stranded or now - port.down_since < self._patience(stream)
        if stranded:
            self._wait(stream)
        else:
            self._outcomes.park(stream, now, retry=bool(owners))

    def _wait(self, stream: Stream) -> None:
        stream.state = State.WAITING
        self._waiting[stream.device].add(stream)

    def _leave(self, stream: Stream) -> None:
        """Take a stream out of whatever it waits in."""
        if stream.state is State.WAITING:
            self._waiting[stream.device].discard(stream)
            if not self._waiting[stream.device]:
                del self._waiting[stream.device]
        stream.state = State.IDLE  # a port it was ready for passes over it

    def _evidence(self, port: Port, evidence: Sequence[Evidence], now: float) -> None:
        spoken_of: dict[Parcel, None] = {}
        try:
            for proof in evidence:
                if isinstance(proof, Echo):
                    self._proven(port, proof, now)
                elif isinstance(proof, CanaryReport):
                    port.report_canary(proof.transaction, proof.place)
                elif isinstance(proof, Report):
                    port.report(proof.transaction, proof.index)
                elif (parcel := port.parcels.note(proof)) is not None:
                    spoken_of[parcel] = None
        except LinkLost as error:
            self._distrust(port, f"evidence out of order: {error}", now)
        for parcel in spoken_of:
            self._custody.look(port, parcel, now)

    def _proven(self, port: Port, echo: Echo, now: float) -> None:
        landing = port.land(echo.transaction, echo.message)
        self._watch_canaries(port.name, landing.places, landing.silent)
        self._settle(port.name, landing, now)
        for parcel in landing.parcels:
            self._custody.landed(port, parcel, now)
        for parcel in landing.doubted:
            self._custody.answered(port, parcel, now)

    def _settle(self, broker: str, landing: Landing, now: float) -> None:
        """What was delivered gets its outcome, all of a share at once; then the streams go on."""
        found: defaultdict[Share, list[Item]] = defaultdict(list)
        streams: list[Stream] = []
        for segment in landing.segments:
            stream, absent = segment.stream, segment.absent
            stream.state = State.IDLE
            if not stream.share.open:
                continue
            if landing.silent:
                absent |= self._presumed_absent(broker, segment, landing.silent)
            delivered, returned = stream.lane.settle(absent, now)
            if delivered:
                found[stream.share] += delivered
                stream.tried.clear()
            if returned:
                stream.tried.add(broker)
            streams.append(stream)
        for share, items in found.items():
            self._outcomes.delivered(share, items)
        for stream in streams:
            self.send(stream, now)

    def _distrust(self, port: Port, reason: str, now: float) -> None:
        """What the link says is not believed any more; whatever it still says belongs to an old connection."""
        port.drop(reason)
        self._lost(port, now)

    def _lost(self, port: Port, now: float, event: LinkDown | None = None) -> None:
        self._hidden.pop(port.name, None)
        culprit = port.blame() if event is not None and event.by_broker else None
        suspect = culprit.lane.head if culprit is not None else None
        held = [parcel.stream for parcel in port.parcels]
        self._custody.salvage(port, now)
        streams = dict.fromkeys((*held, *port.fall(now)))
        if event is not None and culprit is not None and culprit.share.open and culprit.lane.head is suspect:
            self._outcomes.reject(culprit, culprit.lane.pop(now), f"the broker ends the link by it: {event.reason}")
        for stream in streams:
            self.send(stream, now)

    def _watch_canaries(self, broker: str, places: set[int], silent: set[int]) -> None:
        hidden = self._hidden[broker]
        for place in silent - hidden:
            log.error(
                "absence is hidden: a client on this broker subscribes to a filter over other devices' topics; "
                "only the registry's word counts until it leaves",
                extra={"broker": broker, "route": place},
            )
        self._hidden[broker] = (hidden - places) | silent

    def _presumed_absent(self, broker: str, segment: Segment, silent: set[int]) -> frozenset[int]:
        """Where the broker hides absence, a send counts only if the registry still names this broker as an owner."""
        entry = self._owners.get(segment.stream.device)
        known = entry if isinstance(entry, Entry) else Entry()
        return frozenset(
            index
            for index, item in enumerate(segment.items)
            if item.way.place in silent and broker not in known.owners(item.way.destination)
        )
