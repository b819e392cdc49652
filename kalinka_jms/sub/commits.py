"""Makes outcomes final in Kafka: records for the parked, dead and other groups' topics together with the offsets.

One thread, one batch at a time. A batch is a transaction that the offsets belong to, so an instance that was replaced
meanwhile cannot park anything: its transaction fails (tried). A batch of offsets alone needs none: `sub` commits it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import KafkaException, Producer, TopicPartition

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError
from kalinka_jms.kafka import OWN_FAULT, producer, transactional
from kalinka_jms.sub.deadline import NoAnswer, within
from kalinka_jms.sub.share import Share, Write
from kalinka_jms.sub.worker import Failed, worker

log = logging.getLogger("kalinka.sub")

CALL_TIMEOUT = 10.0
"""Seconds one call to Kafka may take before it is tried again."""

PAUSE = 0.2
"""Seconds between attempts while Kafka does not answer."""

SLACK = 5.0
"""Seconds by which a commit may come back late; to do it once more may make a dead letter twice."""

DOUBT = 30.0
"""Seconds for which a commit that timed out is asked for again. Kafka has decided by then, if it is there at all: it
aborts what is not committed after `TRANSACTION_TIMEOUT`."""

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
    """False where nothing of it has happened; writes that Kafka can never take say so."""

    def positions(self) -> list[TopicPartition]:
        return [TopicPartition(topic, share.partition, offset) for share, topic, offset in self.offsets]


class Commits:
    """The thread that commits; `post` gets each batch back, with `committed` saying what came of it."""

    def __init__(self, settings: Settings, post: Callable[[Batch | Failed], None]) -> None:
        self._settings = settings
        self._post = post
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._producer: Producer | None = None
        # this process's own: stopped instances are fenced by the group, a producer of this one by the next
        self._id = f"kalinka-{uuid.uuid4().hex}"
        self._told = ""
        self._thread = worker("commits", self._run, post)
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
        alone: set[Write] = set()
        while True:
            try:
                self._transaction(batch, alone)
                self._told = ""
                return True
            except (ValueError, ConfigError) as error:  # a secret that cannot be read now
                self._tell(str(error))
            except KafkaException as error:
                code = error.args[0]
                self._recover(code)
                if _refused(batch, alone):
                    return False
                if code.code() in REPLACED:
                    log.info("Kafka's group moved on: the batch is decided anew", extra={"reason": code.str()})
                    return False
                if not alone:
                    self._tell(code.str())
            if self._stop.wait(PAUSE):
                return False

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            log.warning("Kafka did not commit, trying again", extra={"reason": reason})
            self._told = reason

    def _transaction(self, batch: Batch, alone: set[Write]) -> None:
        """Write the batch; those in `alone` one by one."""
        producer = self._open()
        producer.begin_transaction()
        for _, write in batch.writes:
            if write in alone:
                self._flush(producer)
            self._produce(producer, write)
            if write in alone:
                self._flush(producer)
        # All is in the log before the group is asked: whoever has the partition next sees where the records end, and
        # waits for this transaction. The other way round it might look before them and never know that they are there.
        self._flush(producer)
        if batch.offsets:
            self._call(producer.send_offsets_to_transaction, batch.positions(), batch.metadata, CALL_TIMEOUT)
        self._patiently(producer)

    def _call(self, call: Callable[..., None], *arguments: Any, slack: float = PAUSE) -> None:
        """In the first transaction after Kafka had died librdkafka waited without end for an answer about the offsets,
        and every later batch with it (tried). A producer that is left behind in this does no harm: the next one has its
        transactional.id, and Kafka aborts what it had begun."""
        try:
            within(CALL_TIMEOUT + slack, call, *arguments)
        except NoAnswer:
            self._producer = None
            raise

    def _produce(self, producer: Producer, write: Write) -> None:
        write.refused, answer = "", partial(_answered, write)
        while True:
            try:
                producer.produce(
                    write.topic,
                    write.value,
                    write.key,
                    partition=write.partition,
                    headers=[*write.headers],
                    timestamp=max(write.timestamp, 0),
                    on_delivery=answer,
                )
                return
            except BufferError:  # librdkafka's own queue is full
                producer.poll(PAUSE)
            except KafkaException as error:
                answer(error.args[0], None)
                raise

    def _flush(self, producer: Producer) -> None:
        """Wait for Kafka's answers to what was produced; they all come before `message.timeout.ms`."""
        while producer.flush(PAUSE) and not self._stop.is_set():
            pass

    def _patiently(self, producer: Producer) -> None:
        """Commit. Whether a commit that timed out has happened is known only by asking again.

        After `DOUBT`, or where the call does not even come back, the batch is written once more, by a new producer:
        librdkafka may look for the coordinator no more (77 s, after Kafka had stood still: tried). If it had happened,
        what was parked has the same keys and so is there once, and where the partitions went to somebody else meanwhile
        the group refuses it.
        """
        end = time.monotonic() + DOUBT
        while True:
            try:
                self._call(producer.commit_transaction, CALL_TIMEOUT, slack=SLACK)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or self._stop.is_set():
                    raise
                self._tell(error.args[0].str())
                if time.monotonic() > end:
                    self._producer = None
                    raise

    def _open(self) -> Producer:
        """The transactional producer. A new one aborts at once what the last one of this process left open."""
        if self._producer is None:
            made = producer(self._settings, **transactional(self._id))
            self._call(made.init_transactions, CALL_TIMEOUT)
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
                self._call(self._producer.abort_transaction, CALL_TIMEOUT)
        except KafkaException as error:
            log.debug("a transaction could not be aborted: %s", error)
            self._producer = None


def _answered(write: Write, error: Any, message: Any) -> None:
    if error is None:
        write.offset = message.offset()
    elif error.code() in OWN_FAULT | {KafkaCode.INVALID_TIMESTAMP} and not write.stub:
        write.refused = error.str()


def _refused(batch: Batch, alone: set[Write]) -> bool:
    """Whether Kafka refused a record for its own sake.

    It refuses whole packets of records for the size of one of them, or of all together: what was refused among others
    has to be refused once more `alone`.
    """
    found = {write for _, write in batch.writes if write.refused}
    sure = found & alone if len(batch.writes) > 1 else found
    for write in found - sure:
        write.refused = ""
    alone |= found
    return bool(sure)
