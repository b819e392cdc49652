"""Batches on their way to Kafka, one at a time: records in a transaction, offsets alone by the consumer itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from kalinka_jms.sub.commits import REPLACED, Batch, Commits
from kalinka_jms.sub.outcomes import Books
from kalinka_jms.sub.share import Share

log = logging.getLogger("kalinka.sub")

COMMIT_EVERY = 0.1
"""Seconds between commits of offsets alone, and until what Kafka did not take is offered again."""

ANSWER = 10.0
"""Seconds until the answer to a commit of offsets is not waited for any more, and they are committed again."""


class Batches:
    """Makes batches of what has become final, and has them committed. It is used by the thread that polls only:
    confluent-kafka 2.16 holds every other one back for as long as this one polls (tried: a commit took 8 s)."""

    def __init__(
        self, consumer: Consumer, commits: Commits, books: Books, done: Callable[[Batch, float], None]
    ) -> None:
        """`done` gets each batch back, with `committed` saying what came of it."""
        self.consumer = consumer
        self._commits = commits
        self._books = books
        self._done = done
        self._batch: Batch | None = None
        self._since = time.monotonic()
        self._told = ""

    @property
    def under_way(self) -> bool:
        """Whether Kafka has not answered to a batch yet."""
        return self._batch is not None

    def unfinished(self, shares: Sequence[Share]) -> bool:
        """Whether there is anything of these shares that Kafka does not have yet."""
        if self.under_way or self._books.refused:
            return True
        return any(share.writes or any(share.moved()) for share in shares)

    def advance(self, shares: Sequence[Share], metadata: Any, now: float, *, wait: bool = False) -> None:
        """Hand over what has become final, when Kafka has the last batch. `metadata` names the group's generation.

        `wait`: nobody polls now, so the answer to a commit of offsets has to be waited for.
        """
        if self._batch is not None and (self._batch.writes or now - self._since < ANSWER):
            return
        urgent = any(share.writes for share in shares) and not self._books.refused
        if not urgent and now - self._since < COMMIT_EVERY:
            return
        batch = self._books.batch(shares)
        self._batch = batch if batch.writes or batch.offsets else None
        if self._batch is not None:
            batch.metadata, self._since = metadata, now
            self._commits.submit(batch) if batch.writes else self._commit(batch, wait)

    def forget(self) -> None:
        """Nobody will poll for the answer to a commit of offsets: they are committed again."""
        if self._batch is not None and not self._batch.writes:
            self._batch = None

    def returned(self, batch: Batch, now: float) -> None:
        """A batch with records came back."""
        self._batch = None
        self._done(batch, now)

    def answered(self, error: Any, partitions: Sequence[TopicPartition]) -> None:
        """Kafka's answer to a commit of offsets (called from `poll`).

        One to an earlier commit, waited for or not, is of no interest any more.
        """
        batch = self._batch
        if batch is not None and not batch.writes and _places(partitions) in (_places(batch.positions()), set()):
            self._finish(batch, error, partitions)

    def _commit(self, batch: Batch, wait: bool) -> None:
        try:
            if wait:
                self._finish(batch, None, self.consumer.commit(offsets=batch.positions(), asynchronous=False))
            else:
                self.consumer.commit(offsets=batch.positions(), asynchronous=True)
        except KafkaException as error:
            self._finish(batch, error.args[0], [])

    def _finish(self, batch: Batch, error: Any, partitions: Sequence[TopicPartition]) -> None:
        error = error or next((partition.error for partition in partitions if partition.error is not None), None)
        if error is not None and error.code() not in REPLACED:
            self._tell(error.str())
        batch.committed = error is None
        self._told = self._told if error else ""
        self.returned(batch, time.monotonic())

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            log.warning("Kafka did not commit, trying again", extra={"reason": reason})
            self._told = reason


def _places(partitions: Sequence[TopicPartition]) -> set[tuple[str, int, int]]:
    return {(partition.topic, partition.partition, partition.offset) for partition in partitions}
