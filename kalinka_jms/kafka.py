"""Kafka: the producers and consumers of both pipelines, with the settings that the promise needs.

The user's librdkafka settings come first, those that exactness rests on last (`config` refuses to see them changed).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka import KafkaError as KafkaCode

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, KafkaError, Problem

log = logging.getLogger("kalinka.kafka")

MAX_MESSAGE_BYTES = 100 * 1024 * 1024
"""Bytes a record may have for the client: as many as the STOMP link brings, so that the topic's own limit decides."""

TRANSACTION_TIMEOUT = 10.0
"""Seconds after which Kafka aborts the transaction of a process that died in it; readers wait that long."""

_COMMON = {
    "client.id": "kalinka",
    "reconnect.backoff.max.ms": 1000,
    "topic.metadata.refresh.interval.ms": 30_000,
    # How long a request waits for a node that is gone without a word (power off, cable cut) before the others are asked
    # who leads now: with the default of 60 s everything stood still for 62 and 76 s (three hosts). Kafka itself takes
    # 9 s to choose new leaders, and a transaction's client takes no more than its transaction does.
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 10_000,
}

PRODUCER: dict[str, Any] = _COMMON | {
    "linger.ms": 1,  # a lone message goes out at once, a stream still makes batches
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "partitioner": "murmur2_random",  # the Java client's: the same key reaches the same partition from everywhere
}
_EXACT_PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    # never give up on our own: with a limit, 160 records failed and 800 later ones were confirmed: a gap (tried)
    "message.timeout.ms": 0,
    # One after the other: a partition that knows nothing of a producer takes any sequence number of it. Where the first
    # batch was refused (no leader just then) and the second one, under way already, was taken, the first is lost for
    # good and counts as written (KAFKA-15591; seen here in one of three pauses). Every session makes a new producer.
    "max.in.flight.requests.per.connection": 1,
}
CONSUMER: dict[str, Any] = _COMMON | {
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 6000,  # the lowest that a broker's default allows
    "heartbeat.interval.ms": 1000,  # by its own the survivor learns that another one is gone
    # How long a rebalance waits for a member that is gone: Kafka 4.1 may forget, as it loads a group twice after a
    # restart, to answer who joined and to expire its members; with the default the group stood still for 5 minutes
    # (tried). More than the giving up of a share takes (`sub`: 12 s), which happens inside a poll.
    "max.poll.interval.ms": 20_000,
    "fetch.wait.max.ms": 100,
    # No more is asked for while so much waits (an answer may bring 1 MiB more for each partition). Of 256 bytes each,
    # 16 MiB of records took 47 MiB of memory, and `sub` has three consumers; 2 MiB took 8 MiB, at 200,000 records/s
    # instead of 230,000, and `sub` was as fast with it.
    "queued.max.messages.kbytes": 2 * 1024,
    "fetch.queue.backoff.ms": 20,  # with the default of 1 s a reader whose queue was full stands still for most of it
}
_EXACT_CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "range",  # the same partition number of every topic comes to the same instance
}

OWN_FAULT = frozenset(
    (
        KafkaCode.MSG_SIZE_TOO_LARGE,
        KafkaCode.RECORD_LIST_TOO_LARGE,
        KafkaCode.INVALID_MSG,
        KafkaCode.INVALID_RECORD,
        KafkaCode._BAD_MSG,
    )
)
"""Errors that say that this one record can never be written; every other one is the surroundings' and passes."""


def producer(settings: Settings, **overrides: Any) -> Producer:
    """Return an idempotent producer that never gives up on a record. Raises ConfigError for a setting it refuses."""
    made: Producer = _make(Producer, settings, PRODUCER, _EXACT_PRODUCER | overrides)
    return made


def transactional(name: str) -> dict[str, Any]:
    """What makes a producer a transactional one, for `producer`: no request may take longer than the transaction."""
    timeout = int(TRANSACTION_TIMEOUT * 1000)
    times = ("transaction.timeout.ms", "message.timeout.ms", "socket.timeout.ms")
    return {"transactional.id": name} | dict.fromkeys(times, timeout)


def consumer(settings: Settings, group: str, **overrides: Any) -> Consumer:
    """Return a consumer that commits nothing by itself. Raises ConfigError for a setting it refuses."""
    made: Consumer = _make(Consumer, settings, CONSUMER, _EXACT_CONSUMER | {"group.id": group} | overrides)
    return made


def part_with(client: Any) -> None:
    """Close a consumer that is not needed any more; whether it ever comes to an end is nobody's concern."""
    threading.Thread(target=client.close, name="part", daemon=True).start()


def offset_of(answer: Future[Any]) -> int:
    """What `AdminClient.list_offsets` found of one partition. Raises KafkaException where it found nothing.

    Where a leader goes away meanwhile, librdkafka 2.16 answers with the offset -1001 and no error (tried: one node of
    three restarted). Taken for the end, a partition full of records looked empty, and they were never replayed.
    """
    offset: int = answer.result().offset
    if offset < 0:
        raise KafkaException(KafkaCode(KafkaCode.LEADER_NOT_AVAILABLE, "nobody says where the partition ends"))
    return offset


def await_equal_partitions(client: Consumer, topics: Sequence[str], stop: threading.Event) -> None:
    """Wait until all the topics exist, or `stop`. Raises KafkaError where their numbers of partitions differ."""
    told = ""
    while not stop.is_set():
        counts = {topic: _partitions(client, topic) for topic in topics}
        missing = ", ".join(topic for topic, count in counts.items() if count == 0)
        if not missing:
            if len(set(counts.values())) > 1:
                raise KafkaError(f"these topics must have the same number of partitions, and have {counts}")
            return
        if missing != told:
            log.warning("topics are missing, or Kafka does not answer: waiting", extra={"topics": missing})
            told = missing
        stop.wait(1.0)


def _partitions(client: Consumer, topic: str) -> int:
    try:
        return len(client.list_topics(topic, timeout=5.0).topics[topic].partitions)
    except KafkaException:
        return 0


def _make(kind: Callable[..., Any], settings: Settings, defaults: dict[str, Any], exact: dict[str, Any]) -> Any:
    try:
        return kind(defaults | settings.kafka_settings() | exact, logger=log)
    except Exception as error:  # KafkaException or ValueError, by the kind of mistake
        raise ConfigError("[kafka]", (Problem("kafka", "", str(error)),)) from error
