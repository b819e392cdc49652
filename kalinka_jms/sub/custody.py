"""Looks after what a broker has taken and a device is to confirm: when it is delivered, and when it comes back.

It never waits and has no thread, like the dispatcher that it is a part of.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from kalinka_jms.registry import Directory
from kalinka_jms.registry.entry import Entry
from kalinka_jms.sub.parcels import Parcel
from kalinka_jms.sub.port import Port
from kalinka_jms.sub.receipts import Listeners
from kalinka_jms.sub.share import Item, Share, State, Stream

log = logging.getLogger("kalinka.sub")

AT_ONCE = 50
"""Records that one device of a route with `delivery = "device"` has un-acknowledged at most: half of what the MQTT
connector sends ahead, and the most that it gets a second time when it leaves."""


class Outcomes(Protocol):
    """What becomes of it."""

    def delivered(self, share: Share, items: Sequence[Item]) -> None: ...

    def freshen(self, stream: Stream, now: float) -> None: ...

    def park(self, stream: Stream, now: float, *, retry: bool) -> None: ...


class Custody:
    """What waits for devices, on all ports."""

    def __init__(
        self,
        owners: Directory,
        patience: Callable[[Stream], float],
        outcomes: Outcomes,
        send: Callable[[Stream, float], None],
    ) -> None:
        """`patience`: seconds until a record that is not confirmed is parked; `send`: what to do with a stream that
        has nothing in flight any more."""
        self._owners = owners
        self._patience = patience
        self._outcomes = outcomes
        self._send = send
        self._doubted: defaultdict[str, set[str]] = defaultdict(set)  # device → brokers where it let its time pass
        self.left_behind = 0
        """Sends given up without an acknowledgement of which a persistent session may hold a copy: its device may get
        each once more, with the same `kalinka.id`."""

    def freshen(self, stream: Stream, now: float) -> None:
        """It is about to be sent: end what of it is too old."""
        self._outcomes.freshen(stream, now)

    def allowance(self, broker: str, stream: Stream) -> int:
        """Records that the stream's device may have un-acknowledged now: one, where it acknowledged none in time."""
        return 1 if broker in self._doubted.get(stream.device, ()) else AT_ONCE

    def listeners(self, broker: str, device: str, destination: str) -> Listeners:
        """By what the device listens there, as far as that is known."""
        entry = self._owners.get(device)
        return Listeners.of(entry.part(broker), destination) if isinstance(entry, Entry) else Listeners()

    def landed(self, port: Port, parcel: Parcel, now: float) -> None:
        """Its transaction went through."""
        parcel.landed, parcel.since = True, now
        self._listen(port, parcel)
        self.look(port, parcel, now)

    def changed(self, ports: Iterable[Port], device: str, now: float) -> None:
        """The registry says something new about a device."""
        self._doubted.pop(device, None)
        for port in ports:
            for parcel in port.parcels.of(device):
                self._listen(port, parcel)
                self.look(port, parcel, now)

    def look(self, port: Port, parcel: Parcel, now: float) -> None:
        """See what is proven of it, and whether more can be."""
        if not parcel.landed or parcel not in port.parcels:
            return
        receipts, stream = parcel.receipts, parcel.stream
        self._deliver(parcel, now)
        if receipts.failed:
            stream.tried.add(port.name)
        if receipts.complete or receipts.failed:
            self._release(port, parcel)
            self._send(stream, now)
        elif receipts.gone and not parcel.doubted:
            port.doubt(parcel)

    def answered(self, port: Port, parcel: Parcel, now: float) -> None:
        """What the broker said of it until it was doubted has come: what is not proven by that never will be."""
        parcel.doubted = False
        if parcel in port.parcels and parcel.receipts.gone:
            self._deliver(parcel, now)
            self._release(port, parcel)
            self._send(parcel.stream, now)

    def expire(self, port: Port, now: float) -> None:
        """Park what has waited too long."""
        for parcel in port.parcels:
            if parcel.landed and parcel.since < now - self._patience(parcel.stream):
                if not port.parcels.heard:
                    log.error(
                        'the broker says nothing of single messages, and delivery = "device" needs that: '
                        "its policies lack advisoryForDispatched and advisoryForConsumed",
                        extra={"broker": port.name},
                    )
                self._doubted[parcel.stream.device].add(port.name)
                self._park(port, parcel, now)

    def hasten(self, port: Port, shares: Sequence[Share], now: float) -> None:
        """Park at once what is not confirmed in these shares."""
        for parcel in port.parcels:
            if parcel.landed and parcel.stream.share in shares:
                self._park(port, parcel, now)

    def close(self, port: Port, share: Share) -> None:
        """The share ended: nothing of it is waited for."""
        for parcel in port.parcels:
            if parcel.stream.share is share:
                port.parcels.remove(parcel)

    def salvage(self, port: Port, now: float) -> None:
        """The connection is gone: what was proven on it is, and nothing more will be."""
        for parcel in port.parcels:
            self._deliver(parcel, now)
            self._release(port, parcel)

    def _listen(self, port: Port, parcel: Parcel) -> None:
        entry = self._owners.get(parcel.stream.device)
        if entry is None or isinstance(entry, Entry):  # else nobody knows: what was known goes on counting
            part = entry.part(port.name) if entry else None
            parcel.receipts.listen(Listeners.of(part, parcel.destination))

    def _deliver(self, parcel: Parcel, now: float) -> None:
        """Account for what is proven by now."""
        stream, count = parcel.stream, parcel.receipts.advance()
        if count and stream.share.open:
            parcel.since = now
            self._outcomes.delivered(stream.share, stream.lane.advance(count, now))
            stream.tried.clear()
            self._doubted.pop(stream.device, None)

    def _park(self, port: Port, parcel: Parcel, now: float) -> None:
        self._release(port, parcel)
        self._outcomes.park(parcel.stream, now, retry=True)

    def _release(self, port: Port, parcel: Parcel) -> None:
        """Nothing more is waited for; what is not proven stands at the head of its stream again."""
        self.left_behind += len(parcel.receipts.kept)
        port.parcels.remove(parcel)
        parcel.stream.lane.give_back()
        parcel.stream.state = State.IDLE
