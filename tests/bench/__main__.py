"""`make bench`: what `kalinka pub` and `kalinka sub` take, beside what stomp.py and confluent-kafka take alone.

Everything runs on one lab, contenders by turns, so that a slow minute of the machine is everybody's. Counts are
verified: what arrived is what was sent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.sub.sends import Send, encode, send_prefix
from tests.bench.alone import PAYLOAD
from tests.bench.devices import Devices
from tests.bench.meter import Run, measure, row

UP, DOWN = "0.mqtt.sparkcluster", "0.sparkcluster.mqtt"
QUEUE = "kalinka.sparkcluster.pub"
ALONE, BARE = "bench.alone", "bench.bare"
NAMES = (
    "kalinka pub",
    "bare loop, broker → Kafka",
    "stomp.py alone, reading",
    "confluent-kafka alone, producing",
    "kalinka sub",
    "bare loop, Kafka → broker",
    "confluent-kafka alone, consuming",
    "stomp.py alone, sending",
)


class Bench:
    """One lab, and a run of each contender on it."""

    def __init__(self, lab: Lab, folder: Path, messages: int, devices: int) -> None:
        self.lab = lab
        self.folder = folder
        self.messages = messages
        self.hosts = lab.layout.addresses
        self.servers = lab.layout.bootstrap
        self.devices = devices
        self.turns = 0
        admin = AdminClient({"bootstrap.servers": self.servers})
        for created in admin.create_topics([NewTopic(ALONE, 6), NewTopic(BARE, 6)]).values():
            created.result()

    def pub(self) -> Run:
        """Messages wait in the queue of one broker; `kalinka pub` drains it into Kafka."""
        self._fill(self.messages)
        start = self._end(UP)
        with self._instances("pub") as pids:
            return measure(pids[0], lambda: self._end(UP) - start, self.messages)

    def sub(self) -> Run:
        """Records wait in Kafka for devices on three brokers, all of them present; `kalinka sub` delivers them."""
        devices = Devices(self.devices, self.hosts)
        try:
            with self._instances("registry"):
                wait_until(lambda: devices.ready, 60)
                self._produce(devices.names)
                with self._instances("sub") as pids:
                    return measure(pids[0], lambda: devices.received, self.messages)
        finally:
            devices.stop()

    def read(self) -> Run:
        self._fill(self.messages)
        return self._alone("read", self.hosts[0], 61613, QUEUE, self.messages)

    def send(self) -> Run:
        destinations = [f"/topic/sparkcluster.mqtt.nobody{i}.sub" for i in range(self.devices)]
        return self._alone("send", self.hosts[0], 61613, destinations, self.messages)

    def bare_drain(self) -> Run:
        self._fill(self.messages)
        return self._loop("drain", self.hosts[0], 61613, QUEUE, self.servers, UP, self.messages)

    def bare_deliver(self) -> Run:
        """All to the one broker, to devices that are not there: the least that a broker can do with a message."""
        self._produce([f"nobody{i}" for i in range(self.devices)], BARE)
        return self._loop("deliver", self.hosts[0], 61613, self.servers, BARE, self.messages)

    def produce(self) -> Run:
        return self._alone("produce", self.servers, ALONE, self.messages)

    def consume(self) -> Run:
        return self._alone("consume", self.servers, ALONE, self.messages)

    def _alone(self, peer: str, *arguments: Any) -> Run:
        return _process("tests.bench.alone", peer, arguments)

    def _loop(self, loop: str, *arguments: Any) -> Run:
        return _process("tests.bench.ceilings", loop, arguments)

    @contextmanager
    def _instances(self, service: str) -> Iterator[Sequence[int]]:
        self.turns += 1
        with Instances(self.lab.config_path, self.folder / f"{self.turns}") as instances:
            yield [instance.pid for instance in instances.start(service)]

    def _fill(self, messages: int) -> None:
        """Publish to the device topics of the first broker, persistent, so that they wait in the queue."""
        from kalinka_jms.config import load
        from kalinka_jms.stomp.link import Link

        link = Link(load(self.lab.config_path).brokers[0], lambda _: None)
        link.connect()
        prefixes = [send_prefix(f"mqtt.d{i}.sparkcluster.pub", 1) + b"persistent:true\n" for i in range(self.devices)]
        for number, start in enumerate(range(0, messages, 200), 1):
            numbers = range(start, min(start + 200, messages))
            link.write(encode(link.identity, number, [Send(prefixes[i % self.devices], PAYLOAD) for i in numbers], []))
        link.disconnect()

    def _produce(self, names: Sequence[str], topic: str = DOWN) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "enable.idempotence": True})
        for i in range(self.messages):
            producer.produce(topic, PAYLOAD, names[i % len(names)])
            if i % 1000 == 0:
                producer.poll(0)
        producer.flush()

    def _end(self, topic: str) -> int:
        """The sum of the end offsets."""
        partitions = self._consumer.list_topics(topic, 10).topics[topic].partitions
        ends = (self._consumer.get_watermark_offsets(TopicPartition(topic, number), 10) for number in partitions)
        return sum(high for _, high in ends)

    @property
    def _consumer(self) -> Consumer:
        if not hasattr(self, "_ends"):
            self._ends = Consumer({"bootstrap.servers": self.servers, "group.id": "bench"})
        return self._ends


def _process(module: str, name: str, arguments: Sequence[Any]) -> Run:
    command = (sys.executable, "-m", module, name, json.dumps(arguments))
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    return Run(**json.loads(output.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each")
    parser.add_argument("--messages", type=int, default=50_000, help="messages a run")
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--address", default="127.0.51.20", help="the first address of the lab")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Layout(Path(folder) / "lab", "small", options.address), lambda text: print(text, file=sys.stderr))
        lab.up()
        try:
            print(_table(_runs(Bench(lab, Path(folder), options.messages, options.devices), options.runs), options))
        finally:
            lab.down(wipe=True)


def _runs(bench: Bench, runs: int) -> dict[str, list[Run]]:
    contenders: Sequence[Callable[[], Run]] = (
        bench.pub,
        bench.bare_drain,
        bench.read,
        bench.produce,
        bench.sub,
        bench.bare_deliver,
        bench.consume,
        bench.send,
    )
    results: dict[str, list[Run]] = defaultdict(list)
    for turn in range(runs + 1):
        for name, contender in zip(NAMES, contenders, strict=True):
            run = contender()
            print(f"{name}: {run.rate:,.0f}/s, {run.cost:.1f} us{'' if turn else ' (warm-up)'}", file=sys.stderr)
            if turn:
                results[name].append(run)
    return results


def _table(results: dict[str, list[Run]], options: argparse.Namespace) -> str:
    head = (
        f"{options.runs} runs of {options.messages:,} messages of 256 bytes, {os.cpu_count()} cores for everything; "
        "journalDiskSyncStrategy=always; median (range)\n\n"
        "| | messages/s | CPU of the process, µs a message |\n|---|---|---|\n"
    )
    return head + "\n".join(row(name, runs) for name, runs in results.items())


if __name__ == "__main__":
    main()
