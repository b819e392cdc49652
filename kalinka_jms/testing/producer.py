# ruff: noqa: ARG002 (the parameters are those of confluent-kafka, used here or not)
"""confluent-kafka's producer upon the fake Kafka."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from kalinka_jms.testing.group import Membership
from kalinka_jms.testing.log import Transaction

if TYPE_CHECKING:
    from kalinka_jms.testing.kafka import FakeKafka

OnDelivery = Callable[["KafkaError | None", Message], None]
Pending = tuple[dict[str, Any], "OnDelivery | None"]


class FakeProducer:
    """A producer whose answers come in order, from `poll` and `flush`, on the thread that calls them."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.confirmed: list[Message] = []
        """What was confirmed, in order."""
        self._queued: deque[Pending] = deque()
        self._purged: deque[Pending] = deque()
        self._granted = 0

    def __len__(self) -> int:
        """Records without an answer."""
        return len(self._queued) + len(self._purged)

    def __bool__(self) -> bool:
        return True

    def confirm(self, count: int = 1) -> None:
        """While the cluster holds: let the oldest `count` records have their answer."""
        with self.kafka.lock:
            self._granted += count
            self.kafka.changed()

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Iterable[tuple[str, Any]] | Mapping[str, Any] | None = None,
    ) -> None:
        """Queue a record. Raises BufferError when too many are queued, KafkaException when it is too large."""
        if len(value or b"") + len(key or b"") > self.kafka.max_bytes:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        if len(self) >= self.kafka.capacity:
            raise BufferError("Local: Queue full")
        record: dict[str, Any] = {"topic": topic, "value": value, "key": key, "partition": partition}
        record |= {"timestamp": timestamp, "headers": headers, "transaction": self._open()}
        with self.kafka.lock:
            self._queued.append((record, on_delivery))
            self.kafka.changed()

    def poll(self, timeout: float = -1) -> int:
        """Give the answers that are due, waiting up to `timeout` seconds for a first one; return how many."""
        if timeout and not self._due():
            self.kafka.wait(self._due, None if timeout < 0 else timeout)
        count = 0
        while self._due():
            self._answer()
            count += 1
        return count

    def flush(self, timeout: float = -1) -> int:
        """Wait up to `timeout` seconds until everything has its answer; return how many have none."""
        end = None if timeout < 0 else time.monotonic() + timeout
        while len(self) and (end is None or time.monotonic() < end):
            self.poll(-1 if end is None else max(0.0, end - time.monotonic()))
        return len(self)

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """Give up what has no answer: it fails at the next `poll`."""
        with self.kafka.lock:
            self._purged.extend(self._queued)
            self._queued.clear()

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """The topics and their partitions."""
        return self.kafka.metadata(topic)

    def _open(self) -> Transaction | None:
        return None

    def _due(self) -> bool:
        return bool(self._purged) or bool(self._queued and (self._granted or not self.kafka.held))

    def _answer(self) -> None:
        purged = bool(self._purged)
        record, on_delivery = self._purged.popleft() if purged else self._queued.popleft()
        error = KafkaError(KafkaError._PURGE_QUEUE) if purged else self.kafka.verdict(record["topic"])
        if not purged:
            self._granted = max(0, self._granted - 1)
        if error is None:
            message = self.kafka.append(**record)
            self.confirmed.append(message)
        else:
            message = Message(topic=record["topic"], key=record["key"], value=record["value"], error=error)
            self._failed(error)
        if on_delivery is not None:
            on_delivery(error, message)

    def _failed(self, error: KafkaError) -> None:
        """A record failed."""


class TransactionalProducer(FakeProducer):
    """A producer with a transactional id. A failed record or a stale group makes the transaction abortable only.

    `commit_error`: what the next commit raises instead of committing, if a test sets it.
    """

    def __init__(self, kafka: FakeKafka, transactional_id: str) -> None:
        super().__init__(kafka)
        self.transactional_id = transactional_id
        self.commit_error: KafkaError | None = None
        self._transaction: Transaction | None = None
        self._offsets: list[tuple[list[TopicPartition], Membership]] = []
        self._failure: KafkaError | None = None

    def init_transactions(self, timeout: float = -1) -> None:
        """Take the transactional id over; an older producer with it is fenced, its open transaction aborted."""
        with self.kafka.lock:
            older = self.kafka.epochs.get(self.transactional_id)
            self.kafka.epochs[self.transactional_id] = self
            if older is not None and older is not self:
                older._end(commit=False)

    def begin_transaction(self) -> None:
        """Begin."""
        self._check_epoch()
        if self._transaction is not None:
            raise KafkaException(KafkaError(KafkaError._STATE, "a transaction is open"))
        self._transaction = Transaction()

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group: Membership, timeout: float = -1
    ) -> None:
        """Commit these offsets with the transaction. Raises KafkaException when the group has gone on without it."""
        self._check_epoch()
        self._open()
        self._check_member(group)
        self._offsets.append((positions, group))

    def commit_transaction(self, timeout: float = -1) -> None:
        """Flush, then commit. Raises KafkaException; `args[0].txn_requires_abort()` tells whether to abort."""
        self._check_epoch()
        self._open()
        if self.flush(timeout):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))
        error, self.commit_error = self.commit_error or self._failure, None
        if error is not None:
            raise KafkaException(KafkaError(error.code(), error.str(), txn_requires_abort=not error.fatal()))
        with self.kafka.lock:
            for positions, member in self._offsets:
                self._check_member(member)
                member.group.commit(positions)
            self._end(commit=True)

    def abort_transaction(self, timeout: float = -1) -> None:
        """Abort: what was written is never shown."""
        self._check_epoch()
        self._open()
        self.purge()
        self.poll(0)
        self._end(commit=False)

    def _open(self) -> Transaction:
        self._check_epoch()
        if self._transaction is None:
            raise KafkaException(KafkaError(KafkaError._STATE, "no transaction is open"))
        return self._transaction

    def _end(self, commit: bool) -> None:
        with self.kafka.lock:
            transaction, self._transaction = self._transaction, None
            self._offsets, self._failure = [], None
            if transaction is not None:
                transaction.committed = commit
                for partition in transaction.partitions:
                    partition.close(transaction)
            self.kafka.changed()

    def _failed(self, error: KafkaError) -> None:
        self._failure = self._failure or error

    def _check_epoch(self) -> None:
        if self.kafka.epochs.get(self.transactional_id) is not self:
            raise KafkaException(KafkaError(KafkaError._FENCED, fatal=True))

    def _check_member(self, member: Membership) -> None:
        if not member.current:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, txn_requires_abort=True))
