"""The back end: a Kafka producer and consumer that remember exactly what was acknowledged and what was read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from types import MappingProxyType
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from kalinka_jms.errors import LabError
from kalinka_jms.lab.device import BACK_END
from kalinka_jms.lab.ledger import Ledger
from kalinka_jms.lab.payload import Payload
from kalinka_jms.lab.waiting import wait_until

TIMEOUT = 20.0  # seconds for Kafka to answer
_COMMON: dict[str, str | int | bool] = {
    "log_level": 3,  # a young cluster makes librdkafka warn of what it retries
    "socket.timeout.ms": 10_000,  # as Kalinka's own clients: what stands still after a power cut is not this one
}


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record as the back end read it; `at` in ns (wall clock)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    at: int

    def header(self, name: str) -> bytes | None:
        """The last header of that name."""
        return dict(self.headers).get(name)


class BackEnd:
    """Kafka as an ordinary user sees it: records with a key and a value only, and everything that `topics` hold.

    It reads from the present end of each topic on, as a reader of committed transactions, and belongs to no group.
    `login`: more settings of librdkafka, where Kafka wants them.
    """

    def __init__(
        self,
        bootstrap: str,
        ledger: Ledger,
        *,
        group: str = "0",
        topics: Sequence[str] = (),
        login: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.group = group
        self.records: list[ReadRecord] = []
        self._ledger = ledger
        self._topics = tuple(topics) or (f"{group}.mqtt.{BACK_END}",)
        self._producer = Producer(_producer_settings(bootstrap) | dict(login))
        self._consumer = Consumer(_consumer_settings(bootstrap) | dict(login))
        self._over = Event()
        self._threads = [Thread(target=self._read, daemon=True), Thread(target=self._poll, daemon=True)]

    def start(self) -> None:
        """Begin to read from the end of each topic. Raises LabError when a topic does not exist."""
        self._consumer.assign([place for topic in self._topics for place in self._ends(topic)])
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Send what is still waiting, and stop."""
        self._producer.flush(TIMEOUT)
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._consumer.close()

    def send(self, device: str, size: int = 0) -> Payload:
        """Produce the next payload of the ledger for `device`; does not wait for Kafka's answer."""
        payload = self._ledger.send(BACK_END, device, "kafka", time.time_ns())
        self.produce(f"{self.group}.{BACK_END}.mqtt", device.encode(), payload.encode(size), payload=payload)
        return payload

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
        payload: Payload | None = None,
    ) -> None:
        """Produce any record; `payload` is what the ledger knows it by."""
        options: dict[str, Any] = {"headers": list(headers), "on_delivery": partial(self._acknowledged, payload)}
        if partition is not None:
            options["partition"] = partition
        while True:
            try:
                return self._producer.produce(topic, key=key, value=value, **options)
            except BufferError:
                self._producer.poll(0.1)

    def flush(self, timeout: float = TIMEOUT) -> None:
        """Wait until Kafka has acknowledged everything produced; LabError when it has not in time."""
        if left := self._producer.flush(timeout):
            raise LabError(f"Kafka has not acknowledged {left} records after {timeout} s")

    def read(self, topic: str) -> list[ReadRecord]:
        """What was read from `topic` so far."""
        return [record for record in list(self.records) if record.topic == topic]

    def wait_for(self, topic: str, wanted: Callable[[ReadRecord], bool], timeout: float = 30.0) -> ReadRecord:
        """The first record of `topic` that is wanted; LabError when none comes in time."""
        found: list[ReadRecord] = []

        def look() -> bool:
            found.extend(record for record in self.read(topic) if wanted(record))
            return bool(found)

        if not wait_until(look, timeout):
            raise LabError(f"not the record wanted on {topic} after {timeout} s")
        return found[0]

    def _acknowledged(self, payload: Payload | None, error: object, _: Message) -> None:
        if error is None and payload is not None:
            self._ledger.acknowledge(payload)

    def _ends(self, topic: str) -> list[TopicPartition]:
        partitions = self._consumer.list_topics(topic, TIMEOUT).topics[topic].partitions
        if not partitions:
            raise LabError(f"Kafka has no topic {topic}")
        return [self._end(TopicPartition(topic, number)) for number in partitions]

    def _end(self, place: TopicPartition) -> TopicPartition:
        _, place.offset = self._consumer.get_watermark_offsets(place, TIMEOUT)
        return place

    def _read(self) -> None:
        while not self._over.is_set():
            for message in self._consumer.consume(500, 0.1):
                if message.error() is None:
                    self._enter(message, time.time_ns())

    def _enter(self, message: Message, at: int) -> None:
        record = _record(message, at)
        self.records.append(record)
        if record.topic.endswith(f".{BACK_END}"):
            self._ledger.arrive(record.value or b"", BACK_END, at)

    def _poll(self) -> None:
        while not self._over.is_set():
            self._producer.poll(0.1)


def _record(message: Message, at: int) -> ReadRecord:
    headers: Any = message.headers() or []
    return ReadRecord(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=message.key(),
        value=message.value(),
        headers=tuple(headers),
        at=at,
    )


def _consumer_settings(bootstrap: str) -> dict[str, Any]:
    return {
        **_COMMON,
        "bootstrap.servers": bootstrap,
        "group.id": f"kalinka-lab-{uuid.uuid4().hex}",  # required by the client; nothing is ever committed to it
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 50,
    }


def _producer_settings(bootstrap: str) -> dict[str, Any]:
    return {
        **_COMMON,
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "linger.ms": 2,
        "message.max.bytes": 10 * 2**20,
    }
