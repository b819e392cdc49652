"""`python -m tests.bench.registry --config FILE`: how fast a watcher learns who listens, and the registry with it.

One broker, one ZooKeeper, devices with a subscription each. Everything is counted: a rate is printed only when all
of them, and nobody else, were in the registry.
"""

from __future__ import annotations

import argparse
import threading
import time
import uuid
from functools import partial
from typing import Any

from kalinka_jms.config import Settings, load
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.owners import Owners
from kalinka_jms.registry.watch import Watch
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.registry.zookeeper import Client, connect
from tests.bench.devices import Devices

PATIENCE = 600.0


class Bench:
    """The registry of one run, with a root of its own."""

    def __init__(self, settings: Settings, number: int) -> None:
        self.settings = settings
        self.client: Client = connect(settings.zookeeper)
        self.broker = settings.brokers[0]
        self.number = number
        self.devices = Devices(number, [self.broker.host])
        assert wait_until(lambda: self.devices.ready, PATIENCE)

    def registered(self) -> int:
        shards = Znodes(self.settings.zookeeper.root).shards
        lists = self.client.gather([partial(_children, path) for path in shards])
        return sum(len(names) for names in lists)

    def watch(self, title: str) -> Watch:
        """A watcher from nothing: election, link, replay up to the echo; then until the registry says all of it."""
        begun = time.perf_counter()
        watch = Watch(self.broker, self.settings, self.client)
        watch.start()
        assert wait_until(lambda: watch.settled, PATIENCE)
        replayed = time.perf_counter() - begun
        assert watch.devices == self.number
        assert wait_until(lambda: self.registered() == self.number and not watch.pending, PATIENCE)
        self._print(f"{title}: replayed", replayed)
        self._print(f"{title}: registered", time.perf_counter() - begun)
        return watch

    def read(self) -> None:
        """Every device asked for once; all of them listen."""
        told, all_told = [0], threading.Event()

        def changed(_: str, entry: Entry | None) -> None:
            told[0] += entry is not None
            if told[0] == self.number:
                all_told.set()

        owners = Owners(self.client, self.settings.zookeeper.root, changed)
        begun, used = time.perf_counter(), time.process_time()
        for name in self.devices.names:
            owners.get(name)
        assert all_told.wait(PATIENCE)
        self._print("owners: first answer", time.perf_counter() - begun)
        print(f"{'owners: CPU':34} {(time.process_time() - used) / self.number * 1e6:7.0f} µs a device", flush=True)
        owners.close()

    def leave(self) -> None:
        """All sockets close at once."""
        begun = time.perf_counter()
        self.devices.stop()
        assert wait_until(lambda: self.registered() == 0, PATIENCE)
        self._print("all devices gone: registered", time.perf_counter() - begun)

    def _print(self, title: str, seconds: float) -> None:
        print(f"{title:34} {seconds:7.2f} s {self.number / seconds:9.0f} devices/s", flush=True)


def run(settings: Settings, number: int) -> None:
    bench = Bench(settings, number)
    first = bench.watch("first watcher")
    stop(first)
    second = bench.watch("next watcher, nothing changed")
    bench.read()
    bench.leave()
    stop(second)
    bench.client.stop()


def stop(watch: Watch) -> None:
    watch.stop()
    watch.join()


def own_root(settings: Settings) -> Settings:
    zookeeper = settings.zookeeper.model_copy(update={"root": f"/bench-{uuid.uuid4().hex[:8]}/devices"})
    return settings.model_copy(update={"zookeeper": zookeeper})


def _children(path: str, kazoo: Any) -> Any:
    return kazoo.get_children_async(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="of a lab that is up: kalinka lab config > FILE")
    parser.add_argument("--devices", type=int, default=2000)
    options = parser.parse_args()
    run(own_root(load(options.config)), options.devices)


if __name__ == "__main__":
    main()
