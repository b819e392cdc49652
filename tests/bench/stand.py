"""The lab of a run, and what fills its queues and topics."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka import admin as kafka_admin
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kalinka_jms.config import load
from kalinka_jms.errors import LinkLost
from kalinka_jms.kafka import offset_of
from kalinka_jms.lab.instances import Instance, Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import ECHO_TOPIC
from tests.bench.meter import Run
from tests.log_in import can_log_in

UP, DOWN = "0.mqtt.sparkcluster", "0.sparkcluster.mqtt"
QUEUE = "kalinka.sparkcluster.pub"
SIZE = 256
PARTITIONS = 6
STOMP = 61613
_LATEST: Any = kafka_admin.OffsetSpec.latest()  # type: ignore[attr-defined, no-untyped-call]
_AT_ONCE = 200
_BUFFER = 4 * 2**20
"""Messages, and bytes, of a transaction that fills a queue."""

_FILLED = 300.0
"""Seconds until the broker has taken the last one: a disconnect waits five, and a slow broker would lose the rest."""

_BEGIN, _COMMIT = (b"%b\ntransaction:1\n\n\x00" % command for command in (b"BEGIN", b"COMMIT"))


class _Taken:
    """The sink of a link that fills a queue: counts the transactions that the broker has taken."""

    def __init__(self) -> None:
        self.echoes = 0

    def __call__(self, batch: list[Frame] | LinkLost) -> None:
        if not isinstance(batch, LinkLost):
            self.echoes += len(batch)


class Stand:
    """One lab that is up, for all parts of a run."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.hosts = lab.layout.addresses
        self.servers = lab.layout.bootstrap
        self.sync = _sync(lab)
        self._turns = 0
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 2})

    def topic(self, name: str) -> str:
        """Make a topic for a contender of its own."""
        made: Any = self._admin.create_topics([NewTopic(name, PARTITIONS, config={"max.message.bytes": "10485760"})])
        made[name].result()
        return name

    def end(self, topic: str) -> int:
        """The sum of the end offsets: one request, so that asking costs little."""
        places = {TopicPartition(topic, number): _LATEST for number in range(self._count(topic))}
        return sum(offset_of(asked) for asked in self._admin.list_offsets(places).values())

    def log(self, name: str) -> Path:
        """A new file for what a process prints."""
        self._turns += 1
        return self.folder / f"{self._turns}-{name}.log"

    @contextmanager
    def instances(self, service: str, count: int = 1, config: Path | None = None) -> Iterator[Sequence[Instance]]:
        """Run a service of Kalinka, that many instances of it."""
        self._turns += 1
        with Instances(config or self.lab.config_path, self.folder / f"{self._turns}") as instances:
            yield instances.start(service, count)

    def publish(self, messages: int, sources: int, *, host: int = 0, size: int = SIZE) -> None:
        """As so many devices would, to the back end: persistent, so that it waits in the queue of `kalinka pub`."""
        self._fill([f"/topic/mqtt.d{i}.sparkcluster.pub" for i in range(sources)], messages, host, size)

    def queue(self, name: str, messages: int) -> None:
        """The same messages straight into a queue, for who knows no routes."""
        self._fill([f"/queue/{name}"], messages, 0, SIZE)

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Afterwards the first broker takes connections again, or time is up: it takes none while thousands go."""
        try:
            yield
        finally:
            wait_until(lambda: can_log_in(load(self.lab.config_path).brokers[0]), _FILLED)

    def _fill(self, destinations: Sequence[str], messages: int, host: int, size: int) -> None:
        taken = _Taken()
        link = Link(load(self.lab.config_path).brokers[host], taken)
        link.connect()
        link.subscribe(ECHO_TOPIC + link.identity, "1")
        sends = [_send(one, "ActiveMQ.MQTT.QoS:1\npersistent:true", b"x" * size) for one in destinations]
        step = max(1, min(_AT_ONCE, _BUFFER // size))
        starts, echo = range(0, messages, step), _send(ECHO_TOPIC + link.identity)
        for start in starts:
            batch = [sends[i % len(sends)] for i in range(start, min(start + step, messages))]
            link.write(b"".join([_BEGIN, *batch, echo, _COMMIT]))
        assert wait_until(lambda: taken.echoes == len(starts), _FILLED), f"{taken.echoes} of {len(starts)} transactions"
        link.disconnect()

    def produce(self, names: Sequence[str], messages: int, topic: str = DOWN, *, size: int = SIZE) -> None:
        """Records for these devices by turns."""
        settings: dict[str, Any] = {"bootstrap.servers": self.servers, "enable.idempotence": True}
        producer, payload = Producer(settings | {"message.max.bytes": 10_485_760}), b"x" * size
        for i in range(messages):
            while True:
                try:
                    producer.produce(topic, payload, names[i % len(names)])
                    break
                except BufferError:
                    producer.poll(0.1)
            if i % 1000 == 0:
                producer.poll(0)
        assert producer.flush(120) == 0, "Kafka did not take all records"

    def _count(self, topic: str) -> int:
        return len(self._admin.list_topics(topic, 10).topics[topic].partitions)


def alone(module: str, name: str, *arguments: Any) -> Run:
    """A loop in a process of its own: `python -m MODULE NAME ARGUMENTS`, which prints a Run."""
    command = (sys.executable, "-m", module, name, json.dumps(arguments))
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    return Run(**json.loads(output.stdout))


def _send(destination: str, headers: str = "persistent:false", payload: bytes = b"") -> bytes:
    """A frame of the transaction. What it has beyond that a message would have from now on, and no device's has it."""
    head = f"SEND\ndestination:{destination}\n{headers}\ntransaction:1\ncontent-length:{len(payload)}\n\n"
    return b"%b%b\x00" % (head.encode(), payload)


def _sync(lab: Lab) -> str:
    """The journalDiskSyncStrategy that the first broker runs with."""
    text = (lab.layout.directory(lab.layout.of("activemq")[0]) / "activemq.xml").read_text()
    found = re.search(r'journalDiskSyncStrategy="(\w+)"', text)
    assert found, "the broker does not say its journalDiskSyncStrategy"
    return found[1]
