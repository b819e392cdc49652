"""Devices that are in the registry without anybody who watches them: some real, some only written there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from kalinka_jms.config import load
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Entry, Part
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.registry.zookeeper import connect
from tests.bench.devices import Devices
from tests.bench.stand import Stand

_AT_ONCE = 5000
"""Znodes between two looks at the clock."""


class Listing:
    """Devices by turns on the brokers b0, b1, …; those on the first `real` ones are connected there."""

    def __init__(self, stand: Stand, names: Sequence[str], real: int, stubs: int) -> None:
        self.names = names
        self.root = f"/bench-{stand.log('listing').stem}/devices"
        places = [i % (real + stubs) for i in range(len(names))]
        self._register(stand, [f"b{place}" for place in places])
        there = [(name, stand.hosts[place]) for name, place in zip(names, places, strict=True) if place < real]
        self._devices = Devices.at(there) if there else None

    @property
    def received(self) -> int:
        """Messages that reached the real ones so far."""
        return self._devices.received if self._devices else 0

    def __enter__(self) -> Self:
        if self._devices is not None:
            devices = self._devices
            assert wait_until(lambda: devices.ready, 300), f"{devices.connected} devices listen"
        return self

    def __exit__(self, *_: object) -> None:
        if self._devices is not None:
            self._devices.stop()

    def _register(self, stand: Stand, brokers: Sequence[str]) -> None:
        settings = load(stand.lab.config_path).zookeeper.model_copy(update={"root": self.root})
        znodes, client = Znodes(self.root), connect(settings)
        try:
            client.gather([partial(_ensure, shard) for shard in znodes.shards])
            requests = [
                partial(_create, znodes.device(name), _entry(name, broker, number))
                for number, (name, broker) in enumerate(zip(self.names, brokers, strict=True), 1)
            ]
            for start in range(0, len(requests), _AT_ONCE):
                client.gather(requests[start : start + _AT_ONCE], 60)
        finally:
            client.stop()


def _entry(name: str, broker: str, number: int) -> bytes:
    filters = tuple(
        Filter(topic, f"ID:stub-1-1-1:{number}:-1:{place}")
        for place, topic in enumerate((f"mqtt.*.mqtt.{name}.sub", f"sparkcluster.mqtt.{name}.sub"), 1)
    )
    return Entry.of(Part(broker, filters, 1)).encode()


def _ensure(path: str, kazoo: Any) -> Any:
    return kazoo.ensure_path_async(path)


def _create(path: str, data: bytes, kazoo: Any) -> Any:
    return kazoo.create_async(path, data)
