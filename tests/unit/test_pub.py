"""Keeping a session with a broker: retries, hand-over between instances, what is told and what is seen."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError
from uplink import Uplink, run

from kalinka_jms.config.settings import Broker
from kalinka_jms.pub import pub, session
from kalinka_jms.pub.pub import BATCH_SIZE, Pub


@pytest.fixture
def up() -> Iterator[Uplink]:
    with Uplink() as scene:
        scene.patch(session, "STAY", 0.0)
        yield scene


def test_it_says_where_it_is_subscribed(up: Uplink) -> None:
    instance = Pub(up.settings)
    assert instance.links == {"dev1": False}
    instance.start()
    up.wait(lambda: instance.links == {"dev1": True})
    instance.stop()
    instance.join()
    assert instance.links == {"dev1": False}
    assert not instance.failed


def test_it_comes_back_to_a_broker_that_was_away(up: Uplink) -> None:
    instance = up.start()
    before = up.publish(100)
    up.wait(lambda: not up.waiting)
    up.broker.crash()
    up.wait(lambda: not instance.up.is_set())
    up.broker.restart()
    up.device.connect()
    after = up.publish(100)
    up.finish()
    assert up.values() == before + after


def test_a_reason_is_told_once_while_it_stays_the_same(up: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    up.broker.up = False
    instance = up.start()
    up.wait(lambda: len(up.brokers.links) > 5)
    assert len([record for record in caplog.records if record.message == "link lost"]) == 1
    up.broker.refusal = "User name [x] or password is invalid."
    up.broker.restart()
    up.wait(lambda: len([record for record in caplog.records if record.message == "link lost"]) == 2)
    up.broker.refusal = None
    up.wait(instance.up.is_set)


def test_sessions_that_fail_at_once_come_less_and_less_often(up: Uplink) -> None:
    waits: list[float] = []
    up.patch(pub, "RETRY_FIRST", 0.2)
    up.patch(pub, "RETRY_FAILED", 30.0)
    instance = pub.BrokerPub(up.settings.brokers[0], up.settings, lambda _: True)
    instance._stop.wait = lambda timeout=None: waits.append(timeout or 0.0) or False  # type: ignore[method-assign]
    up.kafka.fail(KafkaError.TOPIC_AUTHORIZATION_FAILED, count=10_000)
    up.publish()
    instance.start()
    up.wait(lambda: len(waits) >= 10)
    instance.stop()
    instance.join()
    assert waits[:10] == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


@pytest.mark.parametrize("size", [20_000, "20000"])
def test_the_size_of_a_batch_can_be_set(up: Uplink, size: object) -> None:
    assert BATCH_SIZE == 65_536
    up.settings = up.settings.model_copy(update={"kafka": up.settings.kafka | {"batch.size": size}})
    up.start()
    up.wait(lambda: up.batch_sizes == [20_000])


def test_one_broker_that_is_away_holds_no_other_up(up: Uplink) -> None:
    absent = Broker(name="dev2", stomp="stomp://127.0.0.1:61614")
    up.brokers.brokers["dev2"] = type(up.broker)("dev2")
    up.brokers["dev2"].up = False
    up.settings = up.settings.model_copy(update={"brokers": (absent, *up.settings.brokers)})
    up.start()
    sent = up.publish(10)
    up.finish()
    assert up.values() == sent


def test_an_error_that_somebody_keeps_keeps_no_session(up: Uplink) -> None:
    """confluent-kafka keeps what is being handled as a fatal error comes: that was a producer, with its threads."""
    kept: list[Exception] = []
    sessions: list[weakref.ref[session.Session]] = []
    up.patch(pub.BrokerPub, "_learn", lambda _, error: kept.append(error))

    def opened(*args: Any) -> session.Session:
        made = session.Session(*args)
        sessions.append(weakref.ref(made))
        return made

    up.patch(pub, "Session", opened)
    up.kafka.fail(KafkaError.UNKNOWN)
    up.start()
    up.publish()
    up.finish()
    assert len(kept) == 1
    up.brokers.links.clear()
    gc.collect()
    assert [reference() for reference in sessions][:-1] == [None]


# -- hand-over


class Place:
    """Which instance is preferred, as a test wants it."""

    def __init__(self) -> None:
        self.winner = 0

    def says(self, number: int, broker: str) -> bool:
        return self.winner == number


def test_an_instance_hands_over_under_load_exactly_at_a_cut(up: Uplink) -> None:
    """0 lost, 0 duplicates, order kept, however often; each one is active in turn."""
    place = Place()
    for number in range(2):
        up.start(lambda broker, number=number: place.says(number, broker))
    sent: list[bytes] = []
    for turn in range(10):
        place.winner = turn % 2
        sent += up.publish(300)
        begun = len(up.batch_sizes)
        up.wait(lambda begun=begun: len(up.batch_sizes) > begun or not up.waiting)
        sent += up.publish(10)
    up.finish()
    assert up.values() == sent
    assert len(up.batch_sizes) > 5, "hardly anything was handed over"


def test_with_three_instances_the_preferred_one_becomes_active_and_stays(
    up: Uplink, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    place.winner = 2
    instances = [up.start(lambda broker, number=number: place.says(number, broker)) for number in range(3)]
    up.wait(lambda: all(instance.up.is_set() for instance in instances))
    sent: list[bytes] = []
    for _ in range(20):
        sent += up.publish(20)
        up.wait(lambda: not up.waiting)
    up.wait(lambda: all(instance.up.is_set() for instance in instances))
    made = len(up.batch_sizes)
    for _ in range(20):
        sent += up.publish(20)
        up.wait(lambda: not up.waiting)
    assert len(up.batch_sizes) == made, "they still hand over"
    assert sum("making room" in record.message for record in caplog.records) <= 2
    up.finish()
    assert up.values() == sent


def test_nobody_makes_room_before_it_can_be_known_that_the_other_one_lives(up: Uplink) -> None:
    """The znode of an instance that was killed stays for a while: without this the one that took over would leave its
    queue, and come back to it, again and again."""
    up.patch(session, "STAY", 3600.0)
    up.start(lambda _: False)
    sent = up.publish(100)
    up.finish()
    sent += up.publish(100)
    up.finish()
    assert up.values() == sent
    assert len(up.batch_sizes) == 1


def test_where_all_are_active_nobody_makes_room(up: Uplink) -> None:
    with Uplink(exclusive=False) as shared:
        shared.patch(session, "STAY", 0.0)
        shared.start(lambda _: False)
        sent = shared.publish(100)
        shared.finish()
        sent += shared.publish(100)
        shared.finish()
        assert shared.values() == sent
        assert len(shared.batch_sizes) == 1


def test_one_that_stands_by_has_nothing_to_hand_over(up: Uplink) -> None:
    first = up.start()
    up.wait(first.up.is_set)
    second = up.start(lambda _: False)
    up.wait(second.up.is_set)
    up.publish(100)
    up.finish()
    assert len(up.batch_sizes) == 2


def test_the_next_one_takes_over_when_the_active_one_is_gone(up: Uplink) -> None:
    first = up.start()
    up.wait(first.up.is_set)
    second = up.start()
    up.wait(second.up.is_set)
    sent = up.publish(500)
    run(first)()
    sent += up.publish(500)
    up.finish()
    assert up.values() == sent


def test_nobody_makes_room_while_kafka_is_slow(up: Uplink) -> None:
    """It could not be done in order: what is under way would have to be given up."""
    up.patch(session, "SLOW", -1.0)
    up.start(lambda _: False)
    sent = up.publish(100)
    up.finish()
    sent += up.publish(100)
    up.finish()
    assert up.values() == sent
    assert len(up.batch_sizes) == 1
