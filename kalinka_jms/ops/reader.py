"""Reads a part of Kafka once, from offset to offset: no group, nothing committed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import TopicPartition

from kalinka_jms import kafka
from kalinka_jms.config import Settings
from kalinka_jms.errors import KafkaError
from kalinka_jms.ops.cluster import Place

BATCH = 500
"""Records taken from librdkafka at once."""

TIMEOUT = 15.0
"""Seconds without anything from Kafka after which it counts as away."""

Spans = Mapping[Place, tuple[int, int]]
"""Partition → the first offset to read, and the one after the last."""


def read(settings: Settings, spans: Spans, tell: Callable[[str], None] = lambda _: None) -> Iterator[Any]:
    """The committed records of the spans, those of one partition in order; `tell` hears how far it is.

    Raises KafkaError where Kafka does not answer.
    """
    left = {place: end for place, (start, end) in spans.items() if start < end}
    whole, done = sum(end - spans[place][0] for place, end in left.items()), 0
    group = f"kalinka-reader-{uuid.uuid4().hex}"  # librdkafka wants one; nobody joins it
    consumer = kafka.consumer(settings, group, **{"enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(*place, spans[place][0]) for place in left])
        deadline = time.monotonic() + TIMEOUT
        while left:
            messages = consumer.consume(BATCH, 0.2)
            if messages:
                deadline = time.monotonic() + TIMEOUT
            elif time.monotonic() > deadline:
                raise KafkaError(f"Kafka sends nothing of {', '.join(sorted({topic for topic, _ in left}))}")
            for message in messages:
                yield from _taken(message, left)
            done += len(messages)
            tell(f"{min(done, whole)} of {whole} records read")
    finally:
        consumer.close()


def _taken(message: Any, left: dict[Place, int]) -> Iterator[Any]:
    """The record, if it is one of those wanted. Where a partition is read to its end it is taken out of `left`."""
    error, place = message.error(), (message.topic(), message.partition())
    if error is not None and error.code() != KafkaCode._PARTITION_EOF:
        raise KafkaError(f"Kafka does not let us read {message.topic()}: {error.str()}")
    end = left.get(place)
    if end is None:
        return
    if error is None and message.offset() < end:
        yield message
    if message.offset() >= (end if error is not None else end - 1):
        del left[place]


def newest(spans: Spans, limit: int) -> dict[Place, tuple[int, int]]:
    """The last `limit` offsets of the spans together, an equal share of each; all of them where `limit` is 0."""
    share = -(-limit // len(spans)) if limit and spans else 0
    return {place: (max(start, end - share) if share else start, end) for place, (start, end) in spans.items()}
