"""A scene: devices, eavesdroppers and a back end for one test, with names of their own and one ledger."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Event

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from kalinka_jms.lab.backend import BackEnd, ReadRecord
from kalinka_jms.lab.demo import brokers
from kalinka_jms.lab.device import Device
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.ledger import Ledger, Verdict
from kalinka_jms.lab.report import as_text
from kalinka_jms.lab.traffic import Traffic
from kalinka_jms.lab.waiting import wait_until

PARKED = "0.parked"
DEAD = "kalinka.dead"
UP = ("0.mqtt.mqtt", "0.mqtt.sparkcluster")
PATIENCE = 60.0
"""Seconds for what is under way; far more than it takes, as other work may have the machine."""


class Scene:
    """Everything it makes is closed when the stack is."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.ledger = Ledger()
        self.brokers = brokers(lab.layout)
        self._bootstrap = lab.layout.bootstrap
        self._stack = stack

    def device(self, name: str, broker: int | None = None, *, clean: bool = True) -> Device:
        """A device of this test only; listening at the broker of that number, if one is given."""
        device = Device(f"{name}-{self.ledger.run}", self.ledger, clean=clean)
        self._stack.callback(device.close)
        if broker is not None:
            device.join(self.brokers[broker])
        return device

    def trio(self, *places: int) -> list[Device]:
        """Three devices at the brokers of these numbers."""
        return [self.device(name, at) for name, at in zip(("beast", "sabretooth", "wolverine"), places, strict=True)]

    def back_end(self) -> BackEnd:
        """A back end that reads everything the bridge writes, from now on."""
        back_end = BackEnd(self._bootstrap, self.ledger, topics=(*UP, PARKED, DEAD))
        self._stack.callback(back_end.close)
        back_end.start()
        return back_end

    def traffic(self, devices: list[Device], back_end: BackEnd | None = None) -> Traffic:
        """Traffic between them; halted at the end, before they are closed."""
        traffic = Traffic(self.ledger, devices, back_end, size=256)
        self._stack.callback(traffic.halt)
        return traffic

    def let_pass(self, traffic: Traffic, messages: int) -> None:
        """Wait while so many more messages are sent."""
        goal = self.ledger.sends + messages
        assert wait_until(lambda: self.ledger.sends >= goal, PATIENCE)
        traffic.check()

    def eavesdrop(self, broker: int, topics: str = "#") -> None:
        """An MQTT client that subscribes to everything on a broker, and so hides from it that a device is absent."""
        listening = Event()
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"eavesdropper-{broker}-{self.ledger.run}")

        def subscribe(*_: object) -> None:
            client.subscribe(topics, 0)

        client.on_connect = subscribe
        client.on_subscribe = lambda *_: listening.set()
        client.connect(self.brokers[broker].host, self.brokers[broker].port)
        client.loop_start()
        self._stack.callback(client.loop_stop)
        self._stack.callback(client.disconnect)
        assert listening.wait(10)

    def settle(self) -> Verdict:
        """The verdict when everything acknowledged has arrived, or when it has not in time."""
        wait_until(lambda: not self.ledger.missing(), PATIENCE)
        return self.ledger.verdict()


def parked_for(back_end: BackEnd, device: Device) -> list[ReadRecord]:
    """The records that were parked for a device; their key begins with its id. Tombstones do not count."""
    prefix = device.name.encode()
    records = back_end.read(PARKED)
    return [record for record in records if record.value is not None and (record.key or b"").startswith(prefix)]


def assert_exact(verdict: Verdict, *, sent: int | None = None) -> None:
    """Everything arrived once, in order and where it should, and nothing is in doubt."""
    assert_nothing_lost(verdict)
    assert verdict.total.duplicates == 0, _shown(verdict)
    assert verdict.total.unconfirmed == 0, _shown(verdict)
    assert sent in (None, verdict.total.sent), _shown(verdict)


def assert_nothing_lost(verdict: Verdict) -> None:
    """Everything arrived at least once, first arrivals in order: what is promised when a process dies."""
    assert verdict.proven, _shown(verdict)
    assert verdict.total.reordered == 0, _shown(verdict)


def _shown(verdict: Verdict) -> str:
    return f"\n{as_text(verdict)}"
