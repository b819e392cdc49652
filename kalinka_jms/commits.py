"""Makes outcomes final in Kafka: records for the parked, dead and other groups' topics together with the offsets.

One thread, one batch at a time. A batch is a transaction that the offsets belong to, so an instance that was replaced
meanwhile cannot park anything: its transaction fails (tried). Offsets alone need none: `sub` commits them itself.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import KafkaException, Producer, TopicPartition

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError
from kalinka_jms.kafka import OWN_FAULT, TRANSACTION_TIMEOUT, producer
from kalinka_jms.share import Share, Write

log = logging.getLogger("kalinka.sub")

CALL_TIMEOUT = 10.0
"""Seconds one call to Kafka may take before it is tried again."""

PAUSE = 0.2
"""Seconds between attempts while Kafka does not answer."""

REPLACED = frozenset(
    (
        KafkaCode.UNKNOWN_MEMBER_ID,
        KafkaCode.ILLEGAL_GENERATION,
        KafkaCode.FENCED_INSTANCE_ID,
        KafkaCode.REBALANCE_IN_PROGRESS,
        KafkaCode._STATE,
    )
)
"""Kafka's ways to say that the group has moved on since the batch was made."""


@dataclass(slots=True, eq=False)
class Batch:
    """What becomes final together. `metadata` names the generation of the group in which it was decided."""

    writes: list[tuple[Share, Write]] = field(default_factory=list)
    offsets: list[tuple[Share, str, int]] = field(default_factory=list)
    metadata: Any = None
    committed: bool = False

    def positions(self) -> list[TopicPartition]:
        return [TopicPartition(topic, share.partition, offset) for share, topic, offset in self.offsets]


class Commits:
    """The thread that commits; `post` gets each batch back, with `committed` saying what came of it."""

    def __init__(self, settings: Settings, post: Callable[[Batch], None]) -> None:
        self._settings = settings
        self._post = post
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._producer: Producer | None = None
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def submit(self, batch: Batch) -> None:
        """Hand over a batch. Submit the next one only when this came back."""
        self._batches.put(batch)

    def stop(self) -> None:
        """End; a batch that Kafka does not take now comes back uncommitted."""
        self._stop.set()
        self._batches.put(None)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            batch.committed = self._commit(batch)
            self._post(batch)

    def _commit(self, batch: Batch) -> bool:
        while True:
            try:
                self._transaction(batch)
                return True
            except (BufferError, ValueError, ConfigError) as error:  # the last two: a secret that cannot be read now
                log.warning("cannot commit, trying again", extra={"reason": str(error)})
                self._producer = None
                if self._stop.wait(PAUSE):
                    return False
            except KafkaException as error:
                code = error.args[0]
                self._recover(code)
                if code.code() in REPLACED:
                    log.info("Kafka's group moved on: the batch is decided anew", extra={"reason": code.str()})
                    return False
                log.warning("Kafka did not commit, trying again", extra={"reason": code.str()})
                if self._stop.wait(PAUSE):
                    return False

    def _transaction(self, batch: Batch) -> None:
        producer = self._open()
        producer.begin_transaction()
        for _, write in batch.writes:
            producer.produce(
                write.topic,
                write.value,
                write.key,
                partition=write.partition,
                headers=write.headers,
                on_delivery=partial(_note_offset, write),
            )
        if batch.offsets:
            producer.send_offsets_to_transaction(batch.positions(), batch.metadata, CALL_TIMEOUT)
        self._patiently(producer)

    def _patiently(self, producer: Producer) -> None:
        """Commit. Whether a commit that timed out has happened is known only by asking again."""
        while True:
            try:
                producer.commit_transaction(CALL_TIMEOUT)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or self._stop.is_set():
                    raise

    def _open(self) -> Producer:
        """The transactional producer. Its id is new: stopped instances are fenced by the group, not by their id."""
        if self._producer is None:
            made = producer(
                self._settings,
                **{
                    "transactional.id": f"kalinka-{uuid.uuid4().hex}",
                    "transaction.timeout.ms": int(TRANSACTION_TIMEOUT * 1000),
                    "message.timeout.ms": int(TRANSACTION_TIMEOUT * 1000),  # may not exceed the transaction's
                },
            )
            made.init_transactions(CALL_TIMEOUT)
            self._producer = made
        return self._producer

    def _recover(self, code: Any) -> None:
        """After an error: abort what was begun, or begin with a new producer where that cannot be."""
        if self._producer is None:
            return
        try:
            if code.fatal():
                self._producer = None
            else:
                self._producer.purge()
                self._producer.abort_transaction(CALL_TIMEOUT)
        except KafkaException as error:
            log.debug("a transaction could not be aborted: %s", error)
            self._producer = None  # Kafka aborts it after TRANSACTION_TIMEOUT


def _note_offset(write: Write, error: Any, message: Any) -> None:
    if error is None:
        write.offset = message.offset()
    elif error.code() in OWN_FAULT:
        log.error("Kafka refuses a record that must be kept", extra={"topic": write.topic, "reason": error.str()})
