"""The lab's device."""

from __future__ import annotations

from typing import Any

import pytest

from kalinka_jms.lab import device as module
from kalinka_jms.lab.device import Device, MqttBroker
from kalinka_jms.lab.ledger import Ledger


class Client:
    """An MQTT client that listens as soon as it is connected."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.open = False
        clients.append(self)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def connect(self, *_: Any) -> None:
        self.open = True

    def loop_start(self) -> None:
        self.on_subscribe(self, None, 1, [])

    def disconnect(self) -> None:
        self.open = False


clients: list[Client] = []


def test_a_device_has_one_connection_however_often_it_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was left alone when its broker died would come back by itself, and fight for the device's name."""
    monkeypatch.setattr(module, "Client", Client)
    device = Device("d", Ledger())
    for _ in range(2):
        device.join(MqttBroker("dev1", "127.0.0.1", 1883))
    assert [client.open for client in clients] == [False, True]
