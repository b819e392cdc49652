"""Hosts that break under load: the power fails, the link is cut, one boots again. Nothing may be lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kalinka_jms.errors import LabError
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.demo import NAMES, SERVICES
from kalinka_jms.lab.device import BACK_END, Device
from kalinka_jms.lab.ledger import Ledger, Verdict
from kalinka_jms.lab.payload import Payload
from kalinka_jms.lab.traffic import Traffic
from kalinka_jms.lab.waiting import wait_until
from tests.hosts.hosts import ADDRESSES, BOOTSTRAP, BROKERS, PATIENCE, await_ready, nspawn

KEEPALIVE = 5
"""Seconds: a device knows after one and a half of them that its broker is gone."""


class Witness(Ledger):
    """A ledger that also knows of each pair when the newest of its messages that arrived was sent (ns)."""

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[tuple[str, str], int] = {}

    def arrive(self, body: bytes, receiver: str, at: int) -> Payload | None:
        payload = super().arrive(body, receiver, at)
        if payload is not None:
            pair = (payload.source, payload.destination)
            self.newest[pair] = max(self.newest.get(pair, 0), payload.at)
        return payload


@dataclass(frozen=True, slots=True)
class Blow:
    """What happens to a host, and what mends it."""

    name: str
    host: str
    strike: Callable[[str], object]
    mend: Callable[[str], object]
    down: float
    """Seconds for which it stays broken after the others have recovered."""


BLOWS = (
    Blow("power-off", "dev1", lambda host: nspawn("kill", host), lambda host: nspawn("boot", host), 5.0),
    Blow("cut-link", "dev2", lambda host: nspawn("cut", host), lambda host: nspawn("join", host), 15.0),
    Blow("reboot", "dev3", lambda host: nspawn("reboot", host), lambda _: None, 0.0),
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the blow until what was sent after it arrived between all that was not hit, and from the mending
    until the same held for everything."""

    blow: Blow
    others: float
    whole: float

    def __str__(self) -> str:
        blow = f"{self.blow.name}, {self.blow.host}"
        return f"{blow}: the others {self.others:.1f} s, everything {self.whole:.1f} s after its return"


class Chaos:
    """Devices with persistent sessions, one on each host's broker, and a back end; everyone speaks to everyone."""

    def __init__(self, say: Callable[[str], None], blows: Sequence[Blow] = BLOWS, rate: float = 10.0) -> None:
        self._say = say
        self._blows = blows
        self._rate = rate
        self._ledger = Witness()
        self._devices = [Device(name, self._ledger, clean=False, keepalive=KEEPALIVE) for name in NAMES]
        self._back_end = BackEnd(BOOTSTRAP, self._ledger)
        self._traffic = Traffic(self._ledger, self._devices, self._back_end, size=256)

    def play(self) -> tuple[Verdict, list[Recovery]]:
        """Deal the blows one after another, and judge. Raises LabError when something does not come back."""
        with ExitStack() as stack:
            stack.callback(self._back_end.close)
            for device in self._devices:
                stack.callback(device.close)
            stack.callback(self._traffic.halt)
            self._back_end.start()
            for device, broker in zip(self._devices, BROKERS, strict=True):
                device.join(broker)
            self._traffic.start(self._rate)
            self._await(list(self._pairs("")), time.time_ns(), "before any blow")
            recoveries = [self._deal(blow) for blow in self._blows]
            self._traffic.stop()
            self._traffic.flush()
            wait_until(lambda: not self._ledger.missing(), PATIENCE)
        return self._ledger.verdict(), recoveries

    def _deal(self, blow: Blow) -> Recovery:
        self._say(f"{blow.name}: {blow.host}")
        struck = time.time_ns()
        blow.strike(blow.host)
        others = self._await(list(self._pairs(blow.host)), struck, f"{blow.name}: the others")
        time.sleep(blow.down)  # how long it is broken, not a wait for something
        blow.mend(blow.host)
        whole = self._await(list(self._pairs("")), time.time_ns(), f"{blow.name}: everything")
        await_ready(list(ADDRESSES), SERVICES)
        recovery = Recovery(blow, others, whole)
        self._say(f"  {recovery}")
        return recovery

    def _await(self, pairs: list[tuple[str, str]], since: int, what: str) -> float:
        """Wait until a message sent after `since` (ns) has arrived of each pair; the seconds from then."""

        def silent() -> list[tuple[str, str]]:
            self._traffic.check()
            return [pair for pair in pairs if self._ledger.newest.get(pair, 0) <= since]

        if not wait_until(lambda: not silent(), PATIENCE):
            raise LabError(f"{what}: nothing from {', '.join(' to '.join(pair) for pair in silent())}")
        return (time.time_ns() - since) / 1e9

    def _pairs(self, without: str) -> Iterator[tuple[str, str]]:
        """Who speaks to whom, but for the device at that host's broker."""
        there = [device.name for device, broker in zip(self._devices, BROKERS, strict=True) if broker.name != without]
        parties = [*there, BACK_END]
        return ((one, other) for one in parties for other in parties if one != other)
