# ruff: noqa: ARG002 (the parameters are those of confluent-kafka, used here or not)
"""Kafka in memory: a cluster that confirms, holds back or refuses records as a test wants.

Records are confluent-kafka's own `Message`. `FakeKafka.producer` and `FakeKafka.consumer` have the signatures of those
in `kalinka_jms.kafka` (and `FakeKafka.admin` that of confluent-kafka's `AdminClient`) and take their place:
`monkeypatch.setattr("kalinka_jms.pub.outbox.producer", kafka.producer)`.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, Message

from kalinka_jms.testing.admin import FakeAdmin
from kalinka_jms.testing.consumer import FakeConsumer
from kalinka_jms.testing.group import Group
from kalinka_jms.testing.log import Partition, Transaction
from kalinka_jms.testing.producer import FakeProducer, TransactionalProducer

__all__ = ["FakeAdmin", "FakeConsumer", "FakeKafka", "FakeProducer", "TransactionalProducer"]


class FakeKafka:
    """A cluster. A topic comes into being with `partitions` partitions when it is first used.

    `max_bytes`: the most a record may have; `capacity`: the records a producer queues before it raises BufferError.
    Both may be set at any time.
    """

    def __init__(self, partitions: int = 3) -> None:
        self.partitions = partitions
        self.max_bytes = 1_000_000
        self.capacity = 100_000
        self.lock = threading.RLock()
        self.producers: list[FakeProducer] = []
        """Every producer that was ever made, in order."""
        self.consumers: list[FakeConsumer] = []
        """Every consumer that was ever made, in order."""
        self.groups: dict[str, Group] = {}
        self.epochs: dict[str, TransactionalProducer] = {}
        """Transactional id → the producer that may use it: the one that said `init_transactions` last."""
        self.held = False
        self._failures: deque[tuple[int, str | None]] = deque()
        self._topics: dict[str, list[Partition]] = {}
        self._news = threading.Condition(self.lock)

    def producer(self, settings: object = None, **overrides: Any) -> Any:
        """Like `kalinka_jms.kafka.producer`; transactional where the overrides have a `transactional.id`."""
        id = overrides.get("transactional.id")
        self.producers.append(TransactionalProducer(self, id) if id else FakeProducer(self))
        return self.producers[-1]

    def consumer(self, settings: object = None, group: str = "", **overrides: Any) -> Any:
        """Like `kalinka_jms.kafka.consumer`."""
        self.consumers.append(FakeConsumer(self, group, overrides))
        return self.consumers[-1]

    def admin(self, settings: object = None, **more: Any) -> Any:
        """Like `confluent_kafka.admin.AdminClient`."""
        return FakeAdmin(self)

    def create(self, topic: str, partitions: int | None = None) -> list[Partition]:
        """The partitions of a topic, which is made if it does not exist."""
        with self.lock:
            if topic not in self._topics:
                self._topics[topic] = [Partition() for _ in range(partitions or self.partitions)]
                self.changed()
            return self._topics[topic]

    def send(self, topic: str, value: bytes | None, key: bytes | None = None, **more: Any) -> tuple[int, int]:
        """Write a record as any other producer would (`headers`, `partition`, `timestamp` in milliseconds if wanted).

        Returns its partition and offset.
        """
        message = self.append(topic=topic, value=value, key=key, **more)
        return message.partition() or 0, message.offset() or 0

    def hold(self) -> None:
        """Confirm nothing, until `release` (or `FakeProducer.confirm`)."""
        self.held = True

    def release(self) -> None:
        """Confirm again."""
        with self.lock:
            self.held = False
            self.changed()

    def fail(self, code: int, count: int = 1, topic: str | None = None) -> None:
        """The next `count` records (of that topic) that would be confirmed fail with this code instead.

        What comes after them is confirmed: a gap, as the real client leaves one behind a record that it gives up.
        """
        with self.lock:
            self._failures.extend([(code, topic)] * count)

    def records(self, topic: str, partition: int | None = None) -> list[Message]:
        """What `read_committed` shows of a topic, or of one partition of it; in order within each partition."""
        with self.lock:
            parts = self.create(topic)
            wanted = parts if partition is None else [parts[partition]]
            return [message for part in wanted for message in part.read(0)]

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """The offset that a group has committed; None if it has not."""
        with self.lock:
            return self.group(group).committed.get((topic, partition))

    def wait(self, condition: Callable[[], bool], timeout: float | None = 10.0) -> bool:
        """Wait until `condition` holds (looked at after every change in the cluster); return whether it does."""
        with self._news:
            return self._news.wait_for(condition, timeout)

    def changed(self) -> None:
        """Wake those who wait."""
        with self._news:
            self._news.notify_all()

    # -- for producers and consumers

    def group(self, name: str) -> Group:
        """A consumer group, which is made if it does not exist."""
        return self.groups.setdefault(name, Group(self))

    def append(
        self,
        *,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Iterable[tuple[str, Any]] | Mapping[str, Any] | None = None,
        partition: int = -1,
        timestamp: int = 0,
        transaction: Transaction | None = None,
    ) -> Message:
        """Add a record to its partition: the one named, else that of its key."""
        with self.lock:
            parts = self.create(topic)
            number = partition if partition >= 0 else zlib.crc32(key or b"") % len(parts)
            message = Message(
                topic=topic,
                partition=number,
                offset=parts[number].end,
                key=key,
                value=value,
                headers=_headers(headers),
                timestamp=(1, timestamp or time.time_ns() // 1_000_000),
            )
            parts[number].append(message, transaction)
            self.changed()
            return message

    def verdict(self, topic: str) -> KafkaError | None:
        """The failure a test has ordered for the next record of a topic, if any."""
        with self.lock:
            for place, (code, wanted) in enumerate(self._failures):
                if wanted in {None, topic}:
                    del self._failures[place]
                    return KafkaError(code)
            return None

    def metadata(self, topic: str | None = None) -> Any:
        """What `list_topics` returns."""
        with self.lock:
            names = list(self._topics) if topic is None else [topic]
            return SimpleNamespace(brokers={1: "a node"}, topics={name: self._describe(name) for name in names})

    def _describe(self, name: str) -> Any:
        error = None if name in self._topics else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        numbers = range(len(self._topics.get(name, ())))
        return SimpleNamespace(topic=name, error=error, partitions={n: SimpleNamespace(id=n) for n in numbers})


def _headers(headers: Iterable[tuple[str, Any]] | Mapping[str, Any] | None) -> list[tuple[str, Any]] | None:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs] or None
