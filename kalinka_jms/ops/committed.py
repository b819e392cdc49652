"""What `kalinka sub` has committed: asked without joining its group."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, TopicPartition

from kalinka_jms import kafka
from kalinka_jms.config import Settings
from kalinka_jms.errors import KafkaError
from kalinka_jms.ops.cluster import Place

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
        return self.offsets([(topic, partition)])[topic, partition]

    def offsets(self, places: Iterable[Place], timeout: float = ANSWER) -> dict[Place, int]:
        """Those of several partitions, asked at once, in `timeout` seconds."""
        try:
            found = self._consumer.committed([TopicPartition(*place) for place in places], timeout=timeout)
        except KafkaException as error:
            raise KafkaError(f"the committed offset is not known: {error.args[0].str()}") from error
        for place in found:
            if place.error is not None:
                raise KafkaError(f"the committed offset is not known: {place.error.str()}")
        return {(place.topic, place.partition): max(place.offset, -1) for place in found}
