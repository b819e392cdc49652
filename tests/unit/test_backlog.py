"""Reading parked records: the index of a partition, then one by one, forward."""

from __future__ import annotations

import queue
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException
from downlink import settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kalinka_jms.sub import backlog as module
from kalinka_jms.sub.backlog import Backlog, Indexed, Loaded
from kalinka_jms.sub.share import Share
from kalinka_jms.sub.worker import Failed
from kalinka_jms.testing import FakeKafka

TOPIC = "0.parked"


class Scene:
    """A backlog upon a fake Kafka."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kafka = FakeKafka(partitions=2)
        monkeypatch.setattr(module, "consumer", self.kafka.consumer)
        monkeypatch.setattr(module, "AdminClient", self.kafka.admin)
        self.mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.backlog = Backlog(settings(), self.mailbox.put)
        self.share = Share("0", 0)

    def send(self, *values: bytes | None, partition: int = 0) -> list[int]:
        return [self.kafka.send(TOPIC, value, b"k", partition=partition)[1] for value in values]

    def transaction(self, *values: bytes) -> Any:
        """Write records in a transaction, and leave it open."""
        producer = self.kafka.producer(None, **{"transactional.id": f"p{len(self.kafka.producers)}"})
        producer.init_transactions()
        producer.begin_transaction()
        for value in values:
            producer.produce(TOPIC, value, b"k", partition=0)
        producer.flush()
        return producer

    def indexed(self, share: Share | None = None) -> list[tuple[int, int | None]]:
        """Index a share; offset and bytes of what there is."""
        self.backlog.index(share or self.share)
        found: list[Any] = []
        while True:
            event = self.mailbox.get(timeout=10)
            assert isinstance(event, Indexed) and event.share is (share or self.share)
            found += event.records
            if event.whole:
                return [(offset, size) for offset, _, size, _ in found]

    def loaded(self, number: int) -> dict[int, bytes | None]:
        """The next so many records that come."""
        found: dict[int, bytes | None] = {}
        for _ in range(number):
            event = self.mailbox.get(timeout=10)
            assert isinstance(event, Loaded)
            assert event.message is None or event.message.offset() == event.offset
            found[event.offset] = None if event.message is None else event.message.value()
        return found

    def quiet(self) -> bool:
        try:
            self.mailbox.get(timeout=0.15)
        except queue.Empty:
            return True
        return False


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    scene.backlog.start()
    yield scene
    scene.backlog.stop()
    scene.backlog.join(10)
    assert not scene.backlog._thread.is_alive()


def test_an_empty_partition_is_known_at_once(scene: Scene) -> None:
    assert scene.indexed() == []


def test_the_index_has_records_and_tombstones_without_their_values(scene: Scene) -> None:
    scene.send(b"12", None, b"")
    assert scene.indexed() == [(0, 2), (1, None), (2, 0)]


def test_a_long_partition_comes_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    scene.send(*(b"%d" % number for number in range(10)))
    assert [offset for offset, _ in scene.indexed()] == list(range(10))


@pytest.mark.parametrize("commit", [True, False])
def test_a_transaction_that_is_open_is_waited_for(scene: Scene, commit: bool) -> None:
    """Its writer may be gone, or be the one that had the partition before: what it parked must not be missed."""
    scene.send(b"before")
    producer = scene.transaction(b"open")
    scene.backlog.index(scene.share)
    assert scene.quiet()
    (producer.commit_transaction if commit else producer.abort_transaction)()
    event = scene.mailbox.get(timeout=10)
    assert event.whole and [offset for offset, *_ in event.records] == ([0, 1] if commit else [0])


def test_what_comes_after_the_end_is_not_in_the_index(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.send(b"1")
    scene.indexed()
    scene.send(b"2")
    assert scene.quiet()


def test_a_client_that_gets_no_other_answer_is_replaced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may believe in an old epoch of the leader for minutes; a new one asks who leads."""
    monkeypatch.setattr(module, "CLIENT_AGE", 0.0)
    scene.send(b"1")
    scene.indexed(Share("0", 1))  # it has made its client
    first = scene.kafka.admin()

    def fenced(*_: Any, **__: Any) -> dict[Any, Future[Any]]:
        future: Future[Any] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH)))
        return defaultdict(lambda: future)

    monkeypatch.setattr(first, "list_offsets", fenced)
    scene.backlog._admin = first
    assert scene.indexed() == [(0, 1)]


def test_an_answer_without_an_offset_is_no_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka gives -1001 and no error where the leader goes away: the partition is not empty for that."""
    monkeypatch.setattr(module, "CLIENT_AGE", 60.0)
    offsets = scene.send(b"one", b"two")
    scene.indexed(Share("0", 1))  # it has made its client
    first, asked = scene.kafka.admin(), []
    answers = first.list_offsets

    def unknown_at_first(*given: Any, **options: Any) -> dict[Any, Future[Any]]:
        asked.append(given)
        found = answers(*given, **options)
        for future in found.values() if len(asked) < 3 else ():
            future.result().offset = OFFSET_INVALID
        return found

    first.list_offsets = unknown_at_first
    scene.backlog._admin = first
    assert [offset for offset, _ in scene.indexed()] == offsets and len(asked) == 3


def test_what_a_replaced_client_was_asked_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is gone leaves its questions open for ever."""
    monkeypatch.setattr(module, "CLIENT_AGE", 0.0)
    offsets = scene.send(b"one", b"two", partition=1)
    assert scene.indexed() == []
    first = scene.kafka.admin()

    def answers(asked: dict[Any, Any], *_: Any, **__: Any) -> dict[Any, Future[Any]]:
        [where] = asked
        future: Future[Any] = Future()
        if where.partition == 0:
            future.set_exception(KafkaException(KafkaError(KafkaError._NOENT)))
        return {where: future}

    first.list_offsets = answers
    scene.backlog._admin = first
    other = Share("0", 1)
    scene.backlog.index(other)
    scene.backlog.index(Share("0", 0))
    events = [scene.mailbox.get(timeout=10) for _ in range(2)]
    [found] = [event for event in events if event.share is other]
    assert [record[0] for record in found.records] == offsets and found.whole


def test_a_client_that_never_answers_is_replaced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its answer, or the end of its patience, got lost, the partition's devices would get nothing any more."""
    monkeypatch.setattr(module, "SILENCE", 0.1)
    offsets = scene.send(b"1")
    scene.indexed(Share("0", 1))  # it has made its client
    mute = scene.kafka.admin()
    mute.list_offsets = lambda *_, **__: defaultdict(Future)
    scene.backlog._admin = mute
    assert [offset for offset, _ in scene.indexed()] == offsets and scene.backlog._admin is not mute


def test_kafka_away_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partition that nobody answers for holds no other one up."""
    scene.send(b"1")
    ask, tries = module.Backlog._ask, []

    def failing(backlog: Backlog, share: Share) -> Any:
        tries.append(share.partition)
        if share.partition == 1 and tries.count(1) < 3:
            future: Future[Any] = Future()
            future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
            return future
        return ask(backlog, share)

    monkeypatch.setattr(module.Backlog, "_ask", failing)
    away = Share("0", 1)
    scene.backlog.index(away)
    scene.backlog.index(scene.share)
    events = [scene.mailbox.get(timeout=10) for _ in range(2)]
    assert {event.share: event.whole for event in events} == {away: True, scene.share: True}
    assert tries.count(1) == 3


@pytest.mark.parametrize("indexed", [False, True])
def test_a_consumer_of_which_nothing_comes_is_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    """It may never go on, though everything is well: the index is made, and what is wanted comes, all the same."""
    monkeypatch.setattr(module, "SILENCE", 0.1)
    scene.send(b"1", b"2", b"3")
    scene.send(b"other", partition=1)
    other = Share("0", 1)
    scene.indexed(other)
    if indexed:
        scene.indexed()
    mute = scene.backlog._consumer
    consume = mute.consume
    monkeypatch.setattr(mute, "consume", lambda *_: [m for m in consume(*_) if m.partition() == 1])
    if not indexed:
        assert scene.indexed() == [(0, 1), (1, 1), (2, 1)]
    scene.backlog.load(scene.share, [1, 2])
    scene.backlog.load(other, [0])
    assert scene.loaded(3) in ({1: b"2", 2: b"3", 0: b"other"},)
    assert scene.backlog._consumer is not mute and scene.quiet()


def test_records_come_as_they_are_asked_for(scene: Scene) -> None:
    scene.send(*(b"%d" % number for number in range(10)))
    scene.indexed()
    scene.backlog.load(scene.share, [2, 3, 7])
    assert scene.loaded(3) == {2: b"2", 3: b"3", 7: b"7"}
    scene.backlog.load(scene.share, [1])
    assert scene.loaded(1) == {1: b"1"}
    assert not scene.kafka.consumers[0].assignment(), "nothing is read that nobody wants"


def test_a_record_that_is_not_there_is_said_to_be_gone(scene: Scene) -> None:
    scene.transaction(b"0", b"1").commit_transaction()  # offset 2 is its marker
    scene.transaction(b"3").abort_transaction()
    scene.send(b"5")
    scene.indexed()
    scene.backlog.load(scene.share, [1, 2, 3, 5])
    assert scene.loaded(4) == {1: b"1", 2: None, 3: None, 5: b"5"}


def test_a_jump_back_does_not_lose_what_it_goes_back_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before the jump is behind the new place: it must not pass for having looked there."""
    scene.send(*(b"%d" % number for number in range(400)))
    scene.indexed()
    take, asked = Backlog._take, []

    def asking(backlog: Backlog, reading: Any, message: Any) -> None:
        if not asked:
            asked.append(message.offset())
            backlog._want(scene.share, [0, 1, 2])  # while 300 and what follows it is at hand
        take(backlog, reading, message)

    monkeypatch.setattr(Backlog, "_take", asking)
    scene.backlog.load(scene.share, [300, 301])
    assert scene.loaded(5) == {offset: b"%d" % offset for offset in (0, 1, 2, 300, 301)}


def test_long_gaps_are_jumped_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP", 10)
    monkeypatch.setattr(module, "BATCH", 20)
    scene.send(*(b"%d" % number for number in range(300)))
    scene.indexed()
    jumps = []
    assign = scene.kafka.consumers[0].incremental_assign
    monkeypatch.setattr(
        scene.kafka.consumers[0], "incremental_assign", lambda places: (jumps.append(places[0].offset), assign(places))
    )
    scene.backlog.load(scene.share, [5, 12, 100, 105, 290])
    assert scene.loaded(5) == {offset: b"%d" % offset for offset in (5, 12, 100, 105, 290)}
    assert jumps == [5, 100, 290]


@given(data=st.data())
@hypothesis_settings(max_examples=40, deadline=None)
def test_whatever_is_asked_for_in_whatever_order_comes_once(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "GAP", 7)
        monkeypatch.setattr(module, "BATCH", data.draw(st.integers(1, 20)))
        scene = Scene(monkeypatch)
        numbers = data.draw(st.lists(st.integers(0, 59), unique=True, min_size=1))
        scene.send(*(b"%d" % number for number in range(60)))
        scene.backlog.start()
        scene.indexed()
        left = numbers
        while left:
            size = data.draw(st.integers(1, len(left)))
            scene.backlog.load(scene.share, left[:size])
            left = left[size:]
        assert scene.loaded(len(numbers)) == {number: b"%d" % number for number in numbers}
        scene.backlog.stop()
        scene.backlog.join(10)


def test_a_share_that_ended_is_not_read_and_its_successor_is(scene: Scene) -> None:
    scene.send(b"1", b"2")
    scene.indexed()
    scene.backlog.close(scene.share)
    scene.backlog.load(scene.share, [0])
    assert scene.quiet()
    successor = Share("0", 0)
    assert scene.indexed(successor) == [(0, 1), (1, 1)]
    scene.backlog.close(scene.share)  # late: it is not the successor's
    scene.backlog.load(successor, [1])
    assert scene.loaded(1) == {1: b"2"}


def test_one_that_ended_before_it_was_read(scene: Scene) -> None:
    scene.send(b"1")
    scene.share.open = False
    scene.backlog.index(scene.share)
    assert scene.quiet()


def test_a_thread_that_fails_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("broken")

    monkeypatch.setattr(Backlog, "_begin", broken)
    scene.backlog.index(scene.share)
    failed = scene.mailbox.get(timeout=10)
    assert isinstance(failed, Failed) and failed.thread == "backlog"
