"""The fake Kafka does what the real one was seen to do."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from kalinka_jms.testing import FakeKafka


class Answers:
    """Delivery reports, as (code or None, value)."""

    def __init__(self) -> None:
        self.all: list[tuple[int | None, bytes | None]] = []

    def __call__(self, error: KafkaError | None, message: Any) -> None:
        self.all.append((None if error is None else error.code(), message.value()))


def values(messages: list[Any]) -> list[bytes]:
    return [message.value() for message in messages]


def test_a_record_comes_back_byte_for_byte() -> None:
    kafka, answers = FakeKafka(), Answers()
    producer = kafka.producer()
    producer.produce("t", b"\x00\xff", b"key", on_delivery=answers, headers=[("a", b"1"), ("a", "2")], partition=2)
    assert (len(producer), kafka.records("t")) == (1, [])
    assert producer.poll(0) == 1
    (record,) = kafka.records("t", 2)
    assert (record.value(), record.key(), record.headers()) == (b"\x00\xff", b"key", [("a", b"1"), ("a", b"2")])
    assert (record.partition(), record.offset()) == (2, 0)
    assert answers.all == [(None, b"\x00\xff")]


def test_answers_wait_while_the_cluster_holds() -> None:
    kafka, answers = FakeKafka(), Answers()
    producer = kafka.producer()
    kafka.hold()
    for value in (b"1", b"2", b"3"):
        producer.produce("t", value, on_delivery=answers)
    assert producer.poll(0) == 0 and producer.flush(0) == 3
    producer.confirm(2)
    assert producer.poll(0) == 2 and values(kafka.records("t")) == [b"1", b"2"]
    producer.purge()
    producer.poll(0)
    assert answers.all == [(None, b"1"), (None, b"2"), (KafkaError._PURGE_QUEUE, b"3")]
    producer.produce("t", b"4")
    kafka.release()
    assert producer.flush() == 0


def test_failures_are_ordered_by_the_test() -> None:
    kafka, answers = FakeKafka(), Answers()
    producer = kafka.producer()
    kafka.fail(KafkaError.MSG_SIZE_TOO_LARGE, topic="t")
    for topic in ("u", "t", "t"):
        producer.produce(topic, topic.encode(), on_delivery=answers)
    producer.flush()
    assert answers.all == [(None, b"u"), (KafkaError.MSG_SIZE_TOO_LARGE, b"t"), (None, b"t")]


def test_a_full_queue_and_a_large_record() -> None:
    kafka = FakeKafka()
    kafka.capacity, kafka.max_bytes = 1, 10
    producer = kafka.producer()
    with pytest.raises(KafkaException):
        producer.produce("t", b"x" * 11)
    producer.produce("t", b"x" * 10)
    with pytest.raises(BufferError):
        producer.produce("t", b"")


def test_a_transaction_is_seen_whole_or_not_at_all() -> None:
    kafka = FakeKafka(partitions=1)
    producer = kafka.producer(None, **{"transactional.id": "p"})
    producer.init_transactions()
    for commit in (False, True):
        producer.begin_transaction()
        producer.produce("t", b"%d" % commit)
        producer.flush()
        kafka.send("t", b"plain")
        assert values(kafka.records("t")) == [b"plain"][:commit], "behind an open transaction nothing is read"
        (producer.commit_transaction if commit else producer.abort_transaction)()
    assert values(kafka.records("t")) == [b"plain", b"1", b"plain"]
    assert [record.offset() for record in kafka.records("t")] == [1, 3, 4], "markers take offsets"


def test_a_new_producer_fences_the_old_one() -> None:
    kafka = FakeKafka()
    old, new = (kafka.producer(None, **{"transactional.id": "p"}) for _ in range(2))
    old.init_transactions()
    old.begin_transaction()
    old.produce("t", b"old")
    old.flush()
    new.init_transactions()
    with pytest.raises(KafkaException) as refused:
        old.commit_transaction()
    assert refused.value.args[0].fatal()
    assert kafka.records("t") == []


@pytest.mark.parametrize("by", ["record", "test"])
def test_a_failed_transaction_can_only_be_aborted(by: str) -> None:
    kafka = FakeKafka()
    producer = kafka.producer(None, **{"transactional.id": "p"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce("t", b"1")
    if by == "record":
        kafka.fail(KafkaError.INVALID_RECORD)
    else:
        producer.commit_error = KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE)
    with pytest.raises(KafkaException) as refused:
        producer.commit_transaction()
    assert refused.value.args[0].txn_requires_abort()
    producer.abort_transaction()
    producer.begin_transaction()
    producer.produce("t", b"2")
    producer.commit_transaction()
    assert values(kafka.records("t")) == [b"2"]


def test_a_consumer_reads_from_what_is_committed() -> None:
    kafka = FakeKafka(partitions=1)
    for value in (b"1", b"2", b""):
        kafka.send("t", value)
    first = kafka.consumer(None, "g")
    first.subscribe(["t"])
    assert values(first.consume(10, 0)) == [b"1", b"2", b""]
    first.commit(offsets=[TopicPartition("t", 0, 2)], asynchronous=False)
    first.close()
    assert kafka.committed("g", "t", 0) == 2
    second = kafka.consumer(None, "g")
    second.subscribe(["t"])
    record = second.poll(0)
    assert record is not None and record.value() == b"", "an empty record is falsy, as the real one is"


def test_pause_seek_and_position() -> None:
    kafka = FakeKafka(partitions=1)
    for value in (b"1", b"2"):
        kafka.send("t", value)
    consumer = kafka.consumer(None, "g", **{"enable.partition.eof": True})
    here = TopicPartition("t", 0)
    consumer.assign([TopicPartition("t", 0, 1)])
    assert values(consumer.consume(9, 0)) == [b"2"]
    assert consumer.position([here])[0].offset == 2
    assert consumer.poll(0).error().code() == KafkaError._PARTITION_EOF
    assert consumer.poll(0) is None
    consumer.seek(TopicPartition("t", 0, 0))
    consumer.pause([here])
    assert consumer.poll(0) is None
    consumer.resume([here])
    assert values(consumer.consume(9, 0)) == [b"1", b"2"]


def shares(kafka: FakeKafka) -> list[list[tuple[str, int]]]:
    return [[(p.topic, p.partition) for p in consumer.assignment()] for consumer in kafka.consumers]


def test_range_gives_the_same_numbers_of_every_topic() -> None:
    kafka = FakeKafka(partitions=3)
    told: list[tuple[str, int]] = []
    for _ in range(2):
        consumer = kafka.consumer(None, "g")
        consumer.subscribe(
            ["t", "u"],
            on_assign=lambda _, partitions: told.append(("assign", len(partitions))),
            on_revoke=lambda _, partitions: told.append(("revoke", len(partitions))),
        )
        consumer.poll(0)
    kafka.consumers[0].poll(0)
    kafka.consumers[1].poll(0)
    assert shares(kafka) == [[("t", 0), ("t", 1), ("u", 0), ("u", 1)], [("t", 2), ("u", 2)]]
    assert told == [("assign", 6), ("revoke", 6), ("assign", 4), ("assign", 2)]
    kafka.consumers[0].close()
    kafka.consumers[1].poll(0)
    assert len(shares(kafka)[1]) == 6


def test_one_that_was_replaced_cannot_commit() -> None:
    kafka = FakeKafka()
    producer = kafka.producer(None, **{"transactional.id": "p"})
    producer.init_transactions()
    lost: list[int] = []
    stopped = kafka.consumer(None, "g")
    stopped.subscribe(["t"], on_lost=lambda _, partitions: lost.append(len(partitions)))
    stopped.poll(0)
    producer.begin_transaction()
    producer.produce("t", b"1")
    producer.send_offsets_to_transaction([TopicPartition("t", 0, 1)], stopped.consumer_group_metadata())
    stopped.expel()
    with pytest.raises(KafkaException) as refused:
        producer.commit_transaction()
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
    with pytest.raises(KafkaException):
        stopped.commit(offsets=[TopicPartition("t", 0, 1)], asynchronous=False)
    producer.abort_transaction()
    stopped.poll(0)
    assert lost == [3] and len(stopped.assignment()) == 3, "it joins again"
    assert kafka.committed("g", "t", 0) is None and kafka.records("t") == []


def test_offsets_are_committed_with_the_transaction() -> None:
    kafka = FakeKafka()
    consumer = kafka.consumer(None, "g")
    consumer.subscribe(["t"])
    consumer.poll(0)
    producer = kafka.producer(None, **{"transactional.id": "p"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition("t", 1, 5)], consumer.consumer_group_metadata())
    assert kafka.committed("g", "t", 1) is None
    producer.commit_transaction()
    assert kafka.committed("g", "t", 1) == 5
    assert consumer.committed([TopicPartition("t", 1)])[0].offset == 5


def test_where_a_partition_begins_and_ends() -> None:
    kafka = FakeKafka(partitions=1)
    producer, here = kafka.producer(None, **{"transactional.id": "p"}), TopicPartition("t", 0)
    kafka.send("t", b"plain")
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce("t", b"open")
    producer.flush()

    def offset(spec: OffsetSpec, level: IsolationLevel) -> int:
        answers = kafka.admin().list_offsets({here: spec}, isolation_level=level, request_timeout=1.0)
        return int(answers[here].result().offset)

    earliest, latest = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    assert offset(latest, IsolationLevel.READ_UNCOMMITTED) == 2
    assert offset(latest, IsolationLevel.READ_COMMITTED) == 1
    assert offset(earliest, IsolationLevel.READ_COMMITTED) == 0
