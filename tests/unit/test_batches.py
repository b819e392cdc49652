"""Batches on their way to Kafka: one at a time, and none that is waited for for ever."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from downlink import MQTT, Bench, record

from kalinka_jms.sub.batches import ANSWER, Batches
from kalinka_jms.sub.commits import Batch


class Consumer:
    """Keeps what is to be committed; `refusal` is raised instead."""

    def __init__(self) -> None:
        self.asked: list[list[TopicPartition]] = []
        self.waited: list[bool] = []
        self.refusal: int | None = None

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> Any:
        if self.refusal is not None:
            raise KafkaException(KafkaError(self.refusal))
        self.asked.append(offsets)
        self.waited.append(not asynchronous)
        return None if asynchronous else offsets


class Commits:
    """Keeps the batches with records."""

    def __init__(self) -> None:
        self.submitted: list[Batch] = []

    def submit(self, batch: Batch) -> None:
        self.submitted.append(batch)


class Scene(Bench):
    """Streams of one share whose device listens, and the batches of what is delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.consumer, self.commits = Consumer(), Commits()
        self.batches = Batches(self.consumer, self.commits, self.books, self.streams.done)  # type: ignore[arg-type]
        self.share = self.open()
        self.up("b1")
        self.listens("d1", "b1")
        self.time = 1e9

    def deliver(self, offset: int) -> None:
        self.take(record(offset, "d1"))
        self.prove("b1")

    def advance(self, seconds: float = 1.0, **more: Any) -> None:
        self.time += seconds
        self.batches.advance(self.shares, "generation", self.time, **more)

    def answer(self, *offsets: int, error: int | None = None) -> None:
        self.batches.answered(
            None if error is None else KafkaError(error), [TopicPartition(MQTT, 0, offset) for offset in offsets]
        )

    def offsets(self) -> list[int]:
        """What was asked for, since the last look."""
        asked, self.consumer.asked = self.consumer.asked, []
        return [place.offset for places in asked for place in places]


def test_offsets_are_committed_and_answered() -> None:
    scene = Scene()
    scene.deliver(4)
    scene.advance()
    assert scene.offsets() == [5] and scene.consumer.waited == [False] and scene.batches.under_way
    scene.deliver(5)
    scene.advance()
    assert scene.offsets() == []
    scene.answer(5)
    assert not scene.batches.under_way and scene.batches.unfinished(scene.shares)
    scene.advance()
    scene.answer(6)
    assert scene.offsets() == [6] and not scene.batches.unfinished(scene.shares)
    scene.advance()
    assert scene.offsets() == []


def test_records_go_another_way_and_at_once() -> None:
    scene = Scene()
    scene.deliver(1)
    scene.advance()
    scene.answer(2)
    scene.take(record(2, "away"))
    scene.advance(0.0)
    (batch,) = scene.commits.submitted
    assert (batch.metadata, len(batch.writes)) == ("generation", 1) and len(scene.consumer.asked) == 1
    scene.advance(1000)
    assert len(scene.commits.submitted) == 1, "their answer always comes"
    scene.batches.forget()
    assert scene.batches.under_way
    batch.committed = True
    batch.writes[0][1].offset = 0
    scene.batches.returned(batch, 0.0)
    assert not scene.batches.under_way


def test_what_kafka_did_not_take_is_offered_again_but_not_all_the_time() -> None:
    scene = Scene()
    scene.take(record(1, "away"))
    scene.advance()
    scene.batches.returned(scene.commits.submitted[0], 0.0)
    scene.advance(0.01)
    assert len(scene.commits.submitted) == 1
    scene.advance(0.2)
    assert len(scene.commits.submitted) == 2


def test_an_answer_that_never_comes_is_not_waited_for_for_ever() -> None:
    """Nothing would be committed or parked any more."""
    scene = Scene()
    scene.deliver(4)
    scene.advance()
    scene.advance(ANSWER / 2)
    assert scene.offsets() == [5]
    scene.deliver(5)
    scene.advance(ANSWER)
    assert scene.offsets() == [6]
    scene.answer(5)
    assert scene.batches.under_way, "that was the answer to the first one"
    scene.answer(6)
    assert not scene.batches.under_way


def test_before_partitions_go_the_answer_is_waited_for_where_it_is_asked_for() -> None:
    scene = Scene()
    scene.deliver(4)
    scene.advance()
    scene.batches.forget()
    scene.advance(wait=True)
    assert scene.offsets() == [5, 5] and scene.consumer.waited == [False, True]
    assert not scene.batches.unfinished(scene.shares)
    scene.answer(5)
    assert not scene.batches.under_way


@pytest.mark.parametrize("how", ["whole", "one partition", "raised"])
def test_a_refusal_is_told_once_and_tried_again(how: str, caplog: pytest.LogCaptureFixture) -> None:
    scene, refusal = Scene(), KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    scene.deliver(4)
    for _ in range(3):
        if how == "raised":
            scene.consumer.refusal = refusal
            scene.advance()
        elif how == "whole":
            scene.advance()
            scene.answer(error=refusal)
        else:
            scene.advance()
            refused = type("Refused", (), {"topic": MQTT, "partition": 0, "offset": 5, "error": KafkaError(refusal)})
            scene.batches.answered(None, [refused])  # type: ignore[list-item]
        assert not scene.batches.under_way and scene.batches.unfinished(scene.shares)
    assert [entry.message for entry in caplog.records] == ["Kafka did not commit, trying again"]
    scene.consumer.refusal = None
    scene.advance()
    scene.answer(5)
    assert not scene.batches.unfinished(scene.shares)


def test_a_group_that_moved_on_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.deliver(4)
    with caplog.at_level(logging.WARNING):
        scene.advance()
        scene.answer(5, error=KafkaError.ILLEGAL_GENERATION)
    assert not caplog.records and scene.batches.unfinished(scene.shares)
