"""What becomes final in Kafka, and when it does not."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from downlink import MQTT, settings

from kalinka_jms.sub import commits as module
from kalinka_jms.sub.commits import Batch, Commits
from kalinka_jms.sub.share import Share, Write
from kalinka_jms.testing import FakeKafka

GROUP = "kalinka-sub"


class Scene:
    """Commits upon a fake Kafka, with a member of the group."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kafka = FakeKafka(partitions=2)
        monkeypatch.setattr(module, "producer", self.kafka.producer)
        monkeypatch.setattr(module, "PAUSE", 0.01)
        self.consumer = self.kafka.consumer(None, GROUP)
        self.consumer.subscribe([MQTT])
        self.consumer.poll(0)
        self.share = Share("0", 0)
        self.mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.commits = Commits(settings(), self.mailbox.put)
        self.commits.start()

    def submit(self, *writes: Write, offset: int | None = 5) -> Batch:
        batch = Batch([(self.share, write) for write in writes])
        batch.offsets = [] if offset is None else [(self.share, MQTT, offset)]
        batch.metadata = self.consumer.consumer_group_metadata()
        self.commits.submit(batch)
        return batch

    def commit(self, *writes: Write, offset: int | None = 5) -> Batch:
        """Submit a batch and wait until it is back."""
        batch = self.submit(*writes, offset=offset)
        assert self.mailbox.get(timeout=10) is batch
        return batch

    def first_producer(self, monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[..., Any]) -> list[Any]:
        """Have the first producer that is made do this instead; those that are made."""
        made: list[Any] = []

        def producer(*args: Any, **more: Any) -> Any:
            made.append(self.kafka.producer(*args, **more))
            if len(made) == 1:
                setattr(made[0], name, call)
            return made[-1]

        monkeypatch.setattr(module, "producer", producer)
        return made

    def committed(self) -> int | None:
        return self.kafka.committed(GROUP, MQTT, 0)

    def parked(self) -> list[bytes | None]:
        return [record.value() for record in self.kafka.records("0.parked")]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    yield scene
    scene.kafka.release()
    scene.commits.stop()
    scene.commits.join(10)


def write(value: bytes | None, topic: str = "0.parked") -> Write:
    return Write(topic, b"key", value, [("h", b"x"), ("n", None)], 1)


def test_records_and_offsets_become_final_together(scene: Scene) -> None:
    writes = [write(b"1"), write(None), write(b"2", "kalinka.dead")]
    assert scene.commit(*writes).committed
    assert scene.parked() == [b"1", None] and scene.committed() == 5
    (first, second) = scene.kafka.records("0.parked", 1)
    assert (first.headers(), first.key()) == ([("h", b"x"), ("n", None)], b"key")
    assert [item.offset for item in writes[:2]] == [first.offset(), second.offset()]


def test_an_instance_that_was_replaced_parks_nothing(scene: Scene) -> None:
    scene.consumer.expel()
    assert not scene.commit(write(b"1")).committed
    assert scene.parked() == [] and scene.committed() is None
    assert not scene.commit(offset=7).committed and scene.committed() is None
    scene.consumer.poll(0)
    assert scene.commit(write(b"2")).committed and scene.parked() == [b"2"]


def test_the_group_is_asked_when_all_is_in_the_log(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next owner of the partition may find its end before the records, and never know of them."""
    asked = []

    def send_offsets(producer: Any, *_: Any) -> None:
        asked.append((len(producer), scene.kafka.create("0.parked")[1].end))

    monkeypatch.setattr("kalinka_jms.testing.TransactionalProducer.send_offsets_to_transaction", send_offsets)
    assert scene.commit(write(b"1"), write(b"2")).committed
    assert asked == [(0, 2)]


def test_kafka_away_is_waited_for(scene: Scene) -> None:
    scene.kafka.hold()
    batch = scene.submit(write(b"1"))
    with pytest.raises(queue.Empty):
        scene.mailbox.get(timeout=0.1)
    scene.kafka.release()
    assert scene.mailbox.get(timeout=10) is batch and batch.committed and scene.parked() == [b"1"]


def test_at_the_end_nobody_waits_for_kafka(scene: Scene) -> None:
    scene.kafka.hold()
    batch = scene.submit(write(b"1"))
    scene.commits.stop()
    scene.kafka.fail(KafkaError.COORDINATOR_NOT_AVAILABLE)
    scene.kafka.release()
    assert scene.mailbox.get(timeout=10) is batch
    scene.commits.join(10)


def test_what_passes_is_tried_again_and_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.kafka.fail(KafkaError._MSG_TIMED_OUT, count=3)
    assert scene.commit(write(b"1")).committed and scene.parked() == [b"1"]
    assert [entry.message for entry in caplog.records] == ["Kafka did not commit, trying again"]


def test_a_secret_that_cannot_be_read_now_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter((ValueError("no such file"), ValueError("no such file")))

    def producer(*args: Any, **more: Any) -> Any:
        if error := next(answers, None):
            raise error
        return scene.kafka.producer(*args, **more)

    monkeypatch.setattr(module, "producer", producer)
    assert scene.commit(write(b"1")).committed and len(caplog.records) == 1


def test_a_new_producer_ends_what_the_last_one_left_open(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another id its transaction would stand until it times out, and hide what comes after it."""

    def fail(timeout: float) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    scene.commit(write(b"1"))
    (first,) = scene.kafka.producers
    monkeypatch.setattr(first, "abort_transaction", fail)
    scene.kafka.fail(KafkaError._MSG_TIMED_OUT)
    assert scene.commit(write(b"2")).committed
    assert scene.parked() == [b"1", b"2"]
    assert len({producer.transactional_id for producer in scene.kafka.producers}) == 1 < len(scene.kafka.producers)


def test_a_queue_that_is_full_is_emptied(scene: Scene) -> None:
    scene.kafka.capacity = 2
    assert scene.commit(*(write(b"%d" % number) for number in range(7))).committed
    assert len(scene.parked()) == 7


def test_a_record_too_large_for_the_client_is_named(scene: Scene) -> None:
    scene.kafka.max_bytes = 10
    writes = [write(b"1"), write(b"x" * 20), write(b"2")]
    assert not scene.commit(*writes).committed
    assert [bool(item.refused) for item in writes] == [False, True, False] and scene.parked() == []


def test_a_record_too_large_for_the_topic_is_named_when_it_is_alone(scene: Scene) -> None:
    """The broker refuses whole packets: their other records are none the worse for it."""
    writes = [write(b"1"), write(b"2", "large"), write(b"3")]
    refused = KafkaError.MSG_SIZE_TOO_LARGE
    for topic in ("0.parked", "large", "large"):
        scene.kafka.fail(refused, topic=topic)
    assert not scene.commit(*writes).committed
    assert [bool(item.refused) for item in writes] == [False, True, False]
    assert scene.commit(writes[0], writes[2]).committed and scene.parked() == [b"1", b"3"]


def test_records_that_were_too_large_only_together_go_one_by_one_and_in_order(scene: Scene) -> None:
    scene.kafka.fail(KafkaError.RECORD_LIST_TOO_LARGE, count=2)
    assert scene.commit(*(write(b"%d" % number) for number in range(4))).committed
    assert scene.parked() == [b"0", b"1", b"2", b"3"]


def test_a_dead_letter_without_its_value_is_never_given_up(scene: Scene) -> None:
    stub = write(None, "kalinka.dead")
    stub.stub = True
    scene.kafka.fail(KafkaError.MSG_SIZE_TOO_LARGE, count=4)
    assert scene.commit(stub).committed


def test_a_call_that_never_ends_is_left_behind(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first one after Kafka's death was, whatever timeout it was given."""
    monkeypatch.setattr(module, "CALL_TIMEOUT", 0.05)
    forever = Event()
    made = scene.first_producer(monkeypatch, "send_offsets_to_transaction", lambda *_: forever.wait())
    batch = scene.commit(write(b"v"), offset=5)
    forever.set()
    assert batch.committed and scene.committed() == 5 and scene.parked() == [b"v"]
    assert len(made) == 2


@pytest.mark.parametrize("way", ["silent", "late for ever"])
def test_a_commit_that_stays_in_doubt_is_done_by_a_new_producer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT", 0.05)
    monkeypatch.setattr(module, "DOUBT", 0.05)
    forever = Event()

    def commit(_: float) -> None:
        if way == "silent":
            forever.wait()
        else:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))

    made = scene.first_producer(monkeypatch, "commit_transaction", commit)
    batch = scene.commit(write(b"v"))
    forever.set()
    assert batch.committed and scene.committed() == 5 and scene.parked() == [b"v"] and len(made) == 2


@pytest.mark.parametrize("call", ["init_transactions", "abort_transaction"])
def test_whatever_never_ends_before_the_commit_is_left_behind(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT", 0.05)
    forever = Event()
    made = scene.first_producer(monkeypatch, call, lambda *_: forever.wait())
    if call == "abort_transaction":
        scene.kafka.fail(KafkaError._MSG_TIMED_OUT)
    assert scene.commit(write(b"v")).committed and scene.parked() == [b"v"] and len(made) == 2
    forever.set()
