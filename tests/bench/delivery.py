"""`python -m tests.bench.delivery`: what delivery = "device" costs beside "broker", for both kinds of sessions.

All devices are on one broker: one that tells what devices have, or one that does not, of the same lab. The contenders
take turns on it, so that a slow minute of the machine is everybody's; what counts is the ratio within one run. A run
ends when Kafka has the last offset: everything is final by then.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from confluent_kafka import Consumer, TopicPartition

from kalinka_jms.lab import servers
from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.waiting import wait_until
from tests.bench.devices import Devices
from tests.bench.meter import cpu_of
from tests.bench.stand import DOWN, Stand

SILENT, TELLING = "dev1", "dev2"
"""The broker without the advisories, and one with them."""

DEADLINE = 300.0
"""Seconds a run may take."""


@dataclass(frozen=True, slots=True)
class Contender:
    """What is measured."""

    delivery: str
    broker: str
    clean: bool

    def __str__(self) -> str:
        session = "clean" if self.clean else "persistent"
        return f'"{self.delivery}", {session}' + (", broker tells" if self.broker == TELLING else "")


CONTENDERS = tuple(
    Contender(delivery, broker, clean)
    for clean in (True, False)
    for delivery, broker in (("broker", SILENT), ("broker", TELLING), ("device", TELLING))
)


@dataclass(frozen=True, slots=True)
class Run:
    """One counted run: messages a second, and microseconds of CPU a message."""

    rate: float
    sub: float
    broker: float


class Bench:
    """One lab, and a run of each contender on it."""

    def __init__(self, lab: Lab, folder: Path, messages: int, devices: int) -> None:
        self.lab = lab
        self.folder = folder
        self.messages = messages
        self.devices = devices
        self.turns = 0
        self.pids = {status.name: status.pid or 0 for status in lab.status()}
        settings: dict[str, Any] = {"bootstrap.servers": lab.layout.bootstrap, "group.id": "kalinka-sub"}
        self._stand = Stand(lab, folder)
        self._offsets = Consumer(settings | {"enable.auto.commit": False})

    def run(self, contender: Contender) -> Run:
        """Records wait in Kafka for devices that are all present; `kalinka sub` delivers them."""
        self.turns += 1
        config = self.folder / f"{contender.delivery}.toml"
        config.write_text(self.lab.config(contender.delivery))
        host = self.lab.layout.service(f"{contender.broker}.activemq").address
        devices = Devices(self.devices, [host], clean=contender.clean)
        try:
            with Instances(config, self.folder / f"{self.turns}") as instances:
                instances.start("registry")
                instances.wait_ready()
                assert wait_until(lambda: devices.ready, 120)
                self._stand.produce(devices.names, self.messages)
                (sub,) = instances.start("sub")
                return self._measure((sub.pid, self.pids[f"{contender.broker}.activemq"]), devices)
        finally:
            devices.stop()

    def _measure(self, pids: Sequence[int], devices: Devices) -> Run:
        assert wait_until(lambda: devices.received > 0, DEADLINE)
        began, before = time.perf_counter(), [cpu_of(pid) for pid in pids]
        end = self._sum(lambda place: self._offsets.get_watermark_offsets(place, 10)[1])
        assert wait_until(lambda: self._committed() >= end, DEADLINE), (self._committed(), end, devices.received)
        seconds, after = time.perf_counter() - began, [cpu_of(pid) for pid in pids]
        sub, broker = (1e6 * (late - early) / self.messages for early, late in zip(before, after, strict=True))
        return Run(self.messages / seconds, sub, broker)

    def _places(self) -> list[TopicPartition]:
        partitions = self._offsets.list_topics(DOWN, 10).topics[DOWN].partitions
        return [TopicPartition(DOWN, number) for number in partitions]

    def _sum(self, offset: Any) -> int:
        return sum(offset(place) for place in self._places())

    def _committed(self) -> int:
        time.sleep(0.05)  # asking costs CPU that others need
        return sum(max(0, place.offset) for place in self._offsets.committed(self._places(), 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each")
    parser.add_argument("--messages", type=int, default=30_000, help="messages a run")
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--address", default="127.0.51.20", help="the first address of the lab")
    options = parser.parse_args()
    whole = servers.broker_xml

    def broker_xml(name: str, host: str, data: str, ports: Any, device: bool, **rest: Any) -> str:
        return whole(name, host, data, ports, device and name != SILENT, **rest)

    with tempfile.TemporaryDirectory() as folder, patch.object(servers, "broker_xml", broker_xml):
        layout = Layout(Path(folder) / "lab", "small", options.address, delivery_device=True)
        lab = Lab(layout, lambda text: print(text, file=sys.stderr))
        lab.up()
        try:
            results = _runs(Bench(lab, Path(folder), options.messages, options.devices), options.runs)
        finally:
            lab.down(wipe=True)
    print(_table(results, options))


def _runs(bench: Bench, runs: int) -> dict[Contender, list[Run]]:
    results: dict[Contender, list[Run]] = defaultdict(list)
    for turn in range(runs + 1):
        for contender in CONTENDERS:
            run = bench.run(contender)
            told = f"{contender}: {run.rate:,.0f}/s, sub {run.sub:.0f} us, broker {run.broker:.0f} us"
            print(told, "" if turn else " (warm-up)", file=sys.stderr)
            if turn:
                results[contender].append(run)
    return results


def _table(results: dict[Contender, list[Run]], options: argparse.Namespace) -> str:
    head = (
        f"{options.runs} runs of {options.messages:,} messages of 256 bytes, {options.devices} devices on one broker, "
        f"{os.cpu_count()} cores for everything; median (range)\n\n"
        "| `delivery`, session | messages/s | of `broker` | CPU of sub, µs | CPU of the broker, µs |\n"
        "|---|---|---|---|---|\n"
    )
    return head + "\n".join(_row(contender, runs, results) for contender, runs in results.items())


def _row(contender: Contender, runs: Sequence[Run], results: dict[Contender, list[Run]]) -> str:
    beside = results[Contender("broker", SILENT, contender.clean)]
    ratios = [run.rate / other.rate for run, other in zip(runs, beside, strict=True)]
    return (
        f"| {contender} | {_range([run.rate for run in runs], ',.0f')} | {_range(ratios, '.2f')} "
        f"| {_range([run.sub for run in runs], '.0f')} | {_range([run.broker for run in runs], '.0f')} |"
    )


def _range(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
