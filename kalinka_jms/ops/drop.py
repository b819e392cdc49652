"""Drops what is parked for devices: asks those who have the partitions, and waits until they have done it.

Nothing is taken out of the topic behind the back of a running `kalinka sub`: a request is a record of the parked topic,
and its offset is the cut. What was parked before it goes as `expired`; what is on its way to the device at that moment
is delivered, or goes when it comes back; what is parked after it stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import KafkaException, Producer

from kalinka_jms import kafka
from kalinka_jms.config import Settings
from kalinka_jms.errors import KafkaError
from kalinka_jms.ops.cluster import Cluster, Place
from kalinka_jms.ops.reader import read
from kalinka_jms.ops.tally import Waiting
from kalinka_jms.sub.parked import drop_key

TIMEOUT = 15.0
"""Seconds for Kafka to take the requests."""

PAUSE = 0.5
"""Seconds between looks whether they were carried out."""

Requests = Mapping[tuple[str, int, bytes], int]
"""Topic, partition and key of each request, and its offset."""


def ask(settings: Settings, devices: Iterable[Waiting]) -> Requests:
    """Ask to drop what is parked for these devices. Raises KafkaError where Kafka does not take it."""
    producer = kafka.producer(settings, **{"message.timeout.ms": int(TIMEOUT * 1000)})
    made: dict[tuple[str, int, bytes], int] = {}
    errors: list[str] = []

    def answered(error: object, message: object) -> None:
        if error is not None:
            errors.append(str(error))
        else:
            made[message.topic(), message.partition(), message.key()] = message.offset()  # type: ignore[attr-defined]

    for device in devices:
        for topic, partition in sorted(device.places):
            _produce(producer, topic, drop_key(device.device), partition, answered)
    producer.flush(TIMEOUT + 1)
    if errors:
        raise KafkaError(f"Kafka did not take a request: {errors[0]}")
    return made


def wait(settings: Settings, requests: Requests, timeout: float, tell: Callable[[str], None] = lambda _: None) -> int:
    """Wait until all is carried out, or for so many seconds; returns how many requests are not. Raises KafkaError."""
    cluster, deadline = Cluster(settings), time.monotonic() + timeout
    starts: dict[Place, int] = {}
    for (topic, partition, _), offset in requests.items():
        starts[topic, partition] = min(offset, starts.get((topic, partition), offset))
    while True:
        left = _left(settings, cluster, requests, starts)
        tell(f"{len(requests) - left} of {len(requests)} done")
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(PAUSE)


def _left(settings: Settings, cluster: Cluster, requests: Requests, starts: Mapping[Place, int]) -> int:
    ends = cluster.spans(sorted({topic for topic, _ in starts}))
    open_ = dict(requests)
    for record in read(settings, {place: (start, ends[place][1]) for place, start in starts.items()}):
        place = record.topic(), record.partition(), record.key()
        if record.value() is None and record.offset() > open_.get(place, record.offset()):
            del open_[place]
    return len(open_)


def _produce(producer: Producer, topic: str, key: bytes, partition: int, answered: Callable[..., None]) -> None:
    while True:
        try:
            producer.produce(topic, b"drop", key, partition=partition, on_delivery=answered)
            return
        except BufferError:
            producer.poll(0.1)
        except KafkaException as error:
            raise KafkaError(f"Kafka did not take a request: {error}") from error
