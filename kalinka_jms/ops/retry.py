"""Tries dead letters again: what becomes of them and the note that they were tried go in one Kafka transaction.

The transactional id is that of the dead-letter topic: whoever begins later ends an earlier retry that still runs (its
transaction fails), and sees all that it had finished. So a retry that is interrupted, or started twice, neither loses
nor doubles anything.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import KafkaException, Producer

from kalinka_jms import kafka
from kalinka_jms.config import Settings
from kalinka_jms.errors import KafkaError, RecordError
from kalinka_jms.kafka import OWN_FAULT
from kalinka_jms.ops.letters import Again, Retry, marker

BATCH, BATCH_BYTES = 200, 8 * 1024 * 1024
"""Letters that are tried again in one transaction, and the bytes after which it takes no further one."""

TIMEOUT = 10.0
"""Seconds that Kafka has for one answer."""

Job = tuple[Any, Again]
"""A record of the dead-letter topic, and what it becomes."""


@dataclass(slots=True)
class Report:
    """What became of letters that were tried again."""

    sent: Counter[str] = field(default_factory=Counter)
    """Topic → letters that are records there now."""
    back: Counter[str] = field(default_factory=Counter)
    """Reason → letters that came back, one attempt older."""
    left: Counter[str] = field(default_factory=Counter)
    """Reason → letters that nothing could be tried with: they lie there as before."""


class Writer:
    """Writes attempts. It is made once, for one retry."""

    def __init__(self, settings: Settings, retry: Retry) -> None:
        """Raises KafkaError where Kafka does not answer: it ends whatever retry runs elsewhere."""
        self._dead = settings.dead
        self._retry = retry
        self.report = Report()
        name = f"kalinka-retry-{settings.dead}"
        self._producer: Producer = kafka.producer(settings, **kafka.transactional(name))
        self._asked(lambda: self._producer.init_transactions(TIMEOUT))

    def carry_out(self, records: Iterable[Any], tell: Callable[[int], None] = lambda _: None) -> Report:
        """Try these letters again, in their order; `tell` hears how many are done. Raises KafkaError."""
        batch: list[Any] = []
        done = size = 0
        for record in records:
            batch.append(record)
            size += len(record.value() or b"")
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                self._batch(batch)
                done += len(batch)
                tell(done)
                batch, size = [], 0
        self._batch(batch)
        return self.report

    def _batch(self, records: Sequence[Any]) -> None:
        jobs = [job for record in records if (job := self._job(record)) is not None]
        if jobs and self._write(jobs):
            for job in jobs:  # one of them is too large, and nobody can tell which
                self._alone(job)

    def _job(self, record: Any) -> Job | None:
        try:
            return record, self._retry.again(record, time.time())
        except RecordError as error:
            self.report.left[str(error)] += 1
            return None

    def _alone(self, job: Job) -> None:
        refusal = self._write([job])
        if refusal:
            record, again = job
            reason = f"Kafka refuses it in {again.topic}: {refusal}"
            if self._write([(record, self._retry.refused(record, reason, time.time()))]):
                self.report.left[reason] += 1

    def _write(self, jobs: Sequence[Job]) -> str:
        """One transaction; why Kafka can never take one of these records, if so. Raises KafkaError."""
        failures: list[KafkaCode] = []
        try:
            self._producer.begin_transaction()
            self._produce(jobs, failures)
            if not failures:
                self._commit()
        except KafkaException as error:
            failures.append(error.args[0])
        if not failures:
            self._note(jobs)
            return ""
        with contextlib.suppress(KafkaException):
            self._producer.abort_transaction(TIMEOUT)
        for failure in failures:
            if failure.code() not in OWN_FAULT:
                raise KafkaError(f"Kafka did not take the retry, nothing of its last part counts: {failure.str()}")
        return failures[0].str()

    def _produce(self, jobs: Sequence[Job], failures: list[KafkaCode]) -> None:
        answer = partial(_answered, failures)
        tried: defaultdict[int, list[int]] = defaultdict(list)
        for record, again in jobs:
            tried[record.partition()].append(record.offset())
            self._send(again.topic, again.value, again.key, again.partition, again.headers, answer)
        for partition, offsets in tried.items():
            self._send(self._dead, None, None, partition, marker(offsets), answer)
        while self._producer.flush(TIMEOUT):
            pass  # every record has its answer before `message.timeout.ms`

    def _send(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Any, answer: Any
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition=partition, headers=[*headers], on_delivery=answer)
                return
            except BufferError:  # librdkafka's own queue is full
                self._producer.poll(0.1)

    def _commit(self) -> None:
        """Whether a commit that timed out has happened is known only by asking again."""
        while True:
            try:
                self._producer.commit_transaction(TIMEOUT)
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def _note(self, jobs: Sequence[Job]) -> None:
        for _, again in jobs:
            if again.refusal:
                self.report.back[again.refusal] += 1
            else:
                self.report.sent[again.topic] += 1

    @staticmethod
    def _asked(ask: Callable[[], None]) -> None:
        try:
            ask()
        except KafkaException as error:
            raise KafkaError(f"Kafka does not let us begin: {error.args[0].str()}") from error


def _answered(failures: list[KafkaCode], error: Any, _: Any) -> None:
    if error is not None:
        failures.append(error)
