# ruff: noqa: ARG002 (the parameters are those of confluent-kafka, used here or not)
"""confluent-kafka's AdminClient upon the fake Kafka: what the pipelines ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from kalinka_jms.testing.kafka import FakeKafka


class FakeAdmin:
    """An AdminClient. What it answers is there at once."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka

    def list_offsets(
        self,
        topic_partition_offsets: Mapping[TopicPartition, OffsetSpec],
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        request_timeout: float = -1,
    ) -> dict[TopicPartition, Future[Any]]:
        """The first offset for `OffsetSpec.earliest()`, else the end: the stable one for `READ_COMMITTED`."""
        first = type(OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        stable = isolation_level is IsolationLevel.READ_COMMITTED
        answers: dict[TopicPartition, Future[Any]] = {}
        with self.kafka.lock:
            for where, spec in topic_partition_offsets.items():
                partition = self.kafka.create(where.topic)[where.partition]
                end = partition.stable if stable else partition.end
                answers[where] = _done(SimpleNamespace(offset=0 if isinstance(spec, first) else end))
        return answers

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """The topics and their partitions."""
        return self.kafka.metadata(topic)


def _done(result: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future
