"""What `kalinka sub` has committed: asked without joining its group."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, TopicPartition

from kalinka_jms import kafka
from kalinka_jms.config import Settings
from kalinka_jms.errors import KafkaError

ANSWER = 10.0
"""Seconds that Kafka has to say it."""


class Committed:
    """Every record before a committed offset has its outcome. A context manager; raises KafkaError."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = kafka.consumer(settings, settings.sub.consumer_group)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._consumer.close()

    def offset(self, topic: str, partition: int) -> int:
        """The committed offset; -1 where there is none yet."""
        try:
            (place,) = self._consumer.committed([TopicPartition(topic, partition)], timeout=ANSWER)
        except KafkaException as error:
            raise KafkaError(f"the committed offset is not known: {error.args[0].str()}") from error
        if place.error is not None:
            raise KafkaError(f"the committed offset is not known: {place.error.str()}")
        return place.offset if place.offset >= 0 else -1
