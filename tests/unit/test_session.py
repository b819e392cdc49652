"""A session: nothing is acknowledged before Kafka has it, whatever fails; what can never be written is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given, settings
from hypothesis import strategies as st
from uplink import BACK_END, DEAD, QUEUE, UP, Uplink, headers, run

from kalinka_jms.pub import kinds, session
from kalinka_jms.stomp.frames import encode
from kalinka_jms.testing import FakeProducer, link


@pytest.fixture
def up() -> Iterator[Uplink]:
    with Uplink() as scene:
        yield scene


@pytest.fixture
def narrow() -> Iterator[Uplink]:
    with Uplink(prefetch=10, max_bytes=2_000) as scene:
        yield scene


def produced(up: Uplink, messages: int | list[bytes]) -> None:
    """Wait until so many records wait for Kafka's answer."""
    count = messages if isinstance(messages, int) else len(messages)
    up.wait(lambda: bool(up.kafka.producers) and len(up.kafka.producers[0]) == count)


# -- the ordinary way


def test_a_message_becomes_a_record(up: Uplink) -> None:
    up.start()
    [body] = up.publish()
    up.finish()
    [record] = up.kafka.records(UP)
    assert (record.value(), record.key()) == (body, b"wolverine")
    assert headers(record)["kalinka.source"] == b"beast"
    assert headers(record)["mqtt.topic"] == b"mqtt/beast/mqtt/wolverine/pub"


def test_everything_arrives_once_and_in_order_from_both_queues(up: Uplink) -> None:
    sent = up.publish(1500)
    up.start()
    there = up.publish(500, to="sparkcluster")
    sent += up.publish(1500)
    up.finish()
    assert up.values() == sent
    assert up.values(BACK_END) == there


def test_nothing_is_acknowledged_before_kafka_confirms(up: Uplink) -> None:
    up.kafka.hold()
    up.start()
    up.publish(100)
    produced(up, 100)
    assert up.waiting == 100
    up.kafka.producers[0].confirm(30)
    up.wait(lambda: up.waiting == 70)
    up.kafka.release()
    up.finish()


def test_an_empty_payload_and_every_byte_cross_unchanged(up: Uplink) -> None:
    up.start()
    bodies = [b"", bytes(range(256)), b"\x00" * 5]
    for body in bodies:
        up.device.publish("mqtt/beast/mqtt/wolverine/pub", body)
    up.finish()
    assert up.values() == bodies


def test_a_session_that_ended_lets_go_of_its_messages(up: Uplink) -> None:
    """They refer to their window and it to them: with the service's thresholds gc would look at that hours later."""
    up.kafka.hold()
    broker = up.start()
    up.publish(100)
    produced(up, 100)
    ended = broker._session
    assert ended is not None
    windows = ended._windows.values()
    assert sum(map(len, windows)) == 100
    for connection in list(up.brokers.links):
        connection.drop("a test")
    up.wait(lambda: broker._session is not ended)
    assert sum(map(len, windows)) == 0
    up.kafka.release()
    up.finish()


# -- what can never be mapped or written


@pytest.mark.parametrize("topic", ["mqtt/beast/mqtt/a,b/pub", "mqtt//mqtt/wolverine/pub", "mqtt/beast/mqtt/ x/pub"])
def test_what_has_no_place_in_kafka_is_a_dead_letter_and_the_stream_goes_on(up: Uplink, topic: str) -> None:
    up.start()
    before = up.publish(5)
    up.device.publish(topic, b"\x00poison\xff")
    after = up.publish(5)
    up.finish()
    assert up.values() == before + after
    assert up.values(DEAD) == [b"\x00poison\xff"]
    [letter] = up.letters()
    assert letter["kalinka.reason"]
    assert letter["kalinka.origin"] == f"dev1/{QUEUE}".encode()


def test_a_message_of_another_user_than_its_source_is_a_dead_letter_where_that_is_asked_for() -> None:
    with Uplink(verify_source=True) as up:
        up.start()
        topic = "mqtt/beast/mqtt/wolverine/pub"
        up.device.publish(topic, b"mine", user="beast")
        up.device.publish(topic, b"forged", user="magneto")
        up.device.publish(topic, b"nobody's")
        up.device.publish(topic, b"mine too", user="beast")
        up.finish()
        assert up.values() == [b"mine", b"mine too"]
        assert up.values(DEAD) == [b"forged", b"nobody's"]
        forged, unsigned = up.letters()
        assert forged["kalinka.reason"] == b"the source 'beast' is not its sender, the user 'magneto'"
        assert forged["mqtt.topic"] == topic.encode()
        assert unsigned["kalinka.reason"] == b"the broker does not say who sent it: it has no JMSXUserID"


def test_a_fault_of_ours_in_one_message_does_not_stop_the_stream(up: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    original = kinds.to_record

    def faulty(frame: Any, *more: Any) -> Any:
        if b"magneto" in frame.head:
            raise KeyError("surprise")
        return original(frame, *more)

    up.patch(kinds, "to_record", faulty)
    up.start()
    up.device.publish("mqtt/magneto/mqtt/wolverine/pub", b"odd")
    rest = up.publish(5)
    up.finish()
    assert up.values() == rest
    assert up.values(DEAD) == [b"odd"]
    assert b"surprise" in up.letters()[0]["kalinka.reason"]
    assert any(record.exc_info for record in caplog.records)


def test_a_record_that_kafka_refuses_is_a_dead_letter(up: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    up.kafka.fail(KafkaError.MSG_SIZE_TOO_LARGE, topic=UP)
    up.start()
    [large] = up.publish(size=session_batch())
    rest = up.publish(20)
    up.finish()
    assert up.values() == rest
    assert up.values(DEAD) == [large]
    assert up.letters()[0]["kalinka.reason"].startswith(b"Kafka refused it")
    assert len(up.batch_sizes) == 1, "the session went on"
    [line] = [record for record in caplog.records if record.message == "dead letter"]
    assert (line.device, line.broker) == ("wolverine", "dev1")  # type: ignore[attr-defined]
    assert vars(line)["kalinka.id"] == up.letters()[0]["kalinka.id"]


def test_what_nothing_in_kafka_takes_stays_at_the_broker_byte_for_byte(
    up: Uplink, caplog: pytest.LogCaptureFixture
) -> None:
    up.kafka.max_bytes = 100_000
    up.kafka.hold()
    up.start()
    before = up.publish(20)
    [large] = up.publish(size=200_000)
    after = up.publish(20)
    produced(up, 41)  # a letter without the payload as well
    up.kafka.producers[0].confirm(10)
    up.wait(lambda: up.waiting == 31)
    assert up.given_back() == [], "given back before everything ahead of it was acknowledged"
    up.kafka.release()
    up.finish()
    assert up.values() == before + after
    assert up.given_back() == [large]
    [letter] = up.letters()
    assert (up.values(DEAD), letter["kalinka.value"]) == ([b""], b"dev1/ActiveMQ.DLQ")
    assert [record.levelno for record in caplog.records if "ActiveMQ.DLQ" in record.message] == [logging.ERROR]


def test_a_refusal_that_may_mean_a_neighbour_buries_nobody_who_was_not_meant(up: Uplink) -> None:
    """Kafka takes or refuses a batch as a whole: smaller ones are tried until the one that is meant stands alone."""
    meant = b"M" * 300
    refuse(up, lambda producer, record: record["value"] == meant and record["topic"] == UP)
    up.start()
    before = up.publish(5)
    up.device.publish("mqtt/beast/mqtt/wolverine/pub", meant)
    after = up.publish(5)
    up.finish()
    assert up.batch_sizes == [65_536, 4_096, 256]
    assert up.first() == before + after
    assert up.values(DEAD) == [meant]


def test_batches_that_are_too_large_for_the_topic_become_small_enough(up: Uplink) -> None:
    refuse(up, lambda producer, record: up.batch_sizes[producer] > 5_000)
    up.start()
    sent = up.publish(50)
    up.finish()
    assert up.first() == sent
    assert up.values(DEAD) == []
    assert up.batch_sizes == [65_536, 4_096]


def session_batch() -> int:
    """A payload of this size is a batch of its own."""
    return 65_536


def refuse(up: Uplink, refused: Any) -> None:
    """Let Kafka refuse the records for which `refused(number of the producer, record)` holds."""
    verdict = up.kafka.verdict
    answer = FakeProducer._answer

    def answered(producer: FakeProducer) -> None:
        record = producer._queued[0][0] if producer._queued and not producer._purged else {"value": None}
        number = up.kafka.producers.index(producer)
        meant = record["value"] is not None and refused(number, record)
        code = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
        up.kafka.verdict = (lambda topic: code) if meant else verdict  # type: ignore[method-assign]
        answer(producer)

    up.patch(FakeProducer, "_answer", answered)


# -- what is not the message's own fault


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._FATAL, KafkaError.UNKNOWN])
def test_a_failure_ends_the_session_and_the_broker_redelivers(up: Uplink, code: int) -> None:
    up.publish(10)
    up.kafka.fail(code, count=3)
    up.start()
    sent = up.publish(30)
    up.finish()
    assert set(up.values()) >= set(sent)
    assert len(up.batch_sizes) > 1
    assert up.values(DEAD) == []


def test_a_failure_that_produce_raises_ends_the_session_too(up: Uplink) -> None:
    produce = FakeProducer.produce
    refusals = iter([True, True])

    def refusing(producer: FakeProducer, *args: Any, **more: Any) -> None:
        if next(refusals, False):
            raise KafkaException(KafkaError(KafkaError._FATAL))
        produce(producer, *args, **more)

    up.patch(FakeProducer, "produce", refusing)
    up.start()
    sent = up.publish(10)
    up.finish()
    assert up.first() == sent
    assert up.values(DEAD) == []


@pytest.mark.parametrize("error", [KafkaException(KafkaError(KafkaError._FATAL)), SystemError("returned NULL")])
@pytest.mark.parametrize("call", ["poll", "flush"])
def test_a_fatal_error_ends_the_session_not_the_process(up: Uplink, call: str, error: Exception) -> None:
    """confluent-kafka raises it where answers are taken."""
    instance = up.start()
    up.wait(lambda: bool(up.kafka.producers))
    served = getattr(FakeProducer, call)

    def serve(timeout: float) -> object:
        setattr(up.kafka.producers[0], call, lambda timeout: served(up.kafka.producers[0], timeout))
        raise error

    setattr(up.kafka.producers[0], call, serve)
    up.publish(10)
    up.finish()
    up.wait(lambda: call == "flush" or len(up.kafka.producers) == 2)
    run(instance)()
    assert instance.failure is None


def test_a_failure_leaves_no_producer_behind_that_waits_for_an_answer(up: Uplink) -> None:
    """A record without an answer keeps the producer alive, with its threads and sockets."""
    up.kafka.hold()
    up.start()
    produced(up, up.publish(200))
    up.kafka.fail(KafkaError.UNKNOWN)
    up.kafka.producers[0].confirm()
    up.wait(lambda: len(up.kafka.producers) == 2)
    up.kafka.release()
    up.finish()
    assert [len(producer) for producer in up.kafka.producers] == [0, 0]


def test_a_full_queue_of_librdkafka_pushes_back(up: Uplink) -> None:
    up.kafka.capacity = 3
    up.start()
    sent = up.publish(50)
    up.device.publish("mqtt/beast/mqtt/a,b/pub", b"poison")
    sent += up.publish(50)
    up.finish()
    assert up.values() == sent
    assert up.values(DEAD) == [b"poison"]
    assert len(up.batch_sizes) == 1


def test_it_leaves_though_the_queue_of_librdkafka_is_full(up: Uplink) -> None:
    up.kafka.capacity = 3
    up.kafka.hold()
    instance = up.start()
    sent = up.publish(50)
    produced(up, 3)
    left = run(instance)
    up.kafka.release()
    left()
    assert not instance.failure
    assert up.values() == sent[: 50 - up.waiting]


def test_the_byte_window_holds_the_broker_back(narrow: Uplink) -> None:
    narrow.kafka.hold()
    narrow.start()
    sent = narrow.publish(200, size=400)
    narrow.wait(lambda: bool(narrow.kafka.producers) and len(narrow.kafka.producers[0]) > 0)
    narrow.kafka.release()
    narrow.finish()
    assert narrow.values() == sent


# -- the end


def test_a_stop_finishes_what_is_in_flight_and_leaves_the_rest_to_the_next(up: Uplink) -> None:
    first = up.start()
    sent = up.publish(3000)
    up.wait(lambda: up.waiting < 2900)
    run(first)()
    up.start()
    up.finish()
    assert up.values() == sent, "0 lost, 0 duplicates, in order"


def test_a_stop_waits_for_what_kafka_has_not_confirmed(up: Uplink) -> None:
    up.kafka.hold()
    first = up.start()
    sent = up.publish(50)
    produced(up, sent)
    left = run(first)
    up.kafka.producers[0].confirm(20)
    up.wait(lambda: up.waiting == 30)
    up.kafka.release()
    left()
    assert up.waiting == 0
    assert up.values() == sent


def test_a_stop_while_the_link_is_held_back_does_not_wait_for_it(narrow: Uplink) -> None:
    """The receipt of DISCONNECT comes through the same reading thread."""
    narrow.patch(link, "DISCONNECT_TIMEOUT", 3600.0)
    narrow.kafka.hold()
    first = narrow.start()
    produced(narrow, narrow.publish(size=4_000))
    narrow.publish(size=4_000)
    narrow.wait(narrow.brokers.links[0]._inbox.empty)  # the reading thread has it, and waits for room
    narrow.publish(size=4_000)
    left = run(first)
    narrow.kafka.release()
    left()


def test_a_stop_while_kafka_is_away_gives_up_in_time_and_loses_nothing(up: Uplink) -> None:
    up.patch(session, "DRAIN_TIMEOUT", 0.1)
    up.kafka.hold()
    first = up.start()
    sent = up.publish(100)
    produced(up, 100)
    run(first)()
    assert first.failure is None
    assert up.waiting == 100
    up.kafka.release()
    up.start()
    up.finish()
    assert up.values() == sent


def test_a_link_that_is_lost_while_it_drains_ends_the_waiting(up: Uplink) -> None:
    up.patch(session, "DRAIN_TIMEOUT", 3600.0)
    up.kafka.hold()
    first = up.start()
    produced(up, up.publish(10))
    left = run(first)
    inbox: Any = up.brokers.links[0]._sink
    up.wait(lambda: inbox.__self__._closed)
    up.broker.crash()
    left()  # with Kafka still away, and long before the drain would give up
    assert first.failure is None


def test_a_process_that_stood_still_drops_its_link(up: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    up.patch(session, "STALL", -1.0)
    up.start()
    up.wait(lambda: any("stood still" in str(vars(record).get("reason")) for record in caplog.records))


def test_a_frame_that_nobody_expects_is_not_swallowed(up: Uplink) -> None:
    instance = up.start()
    up.wait(lambda: instance.up.is_set())
    link = up.brokers.links[0]
    link.subscribe("/queue/other", "9")
    link.write(encode("SEND", [("destination", "/queue/other")], b"?"))
    up.wait(lambda: instance.failure is not None)


# -- Kafka away


def test_it_does_not_stand_by_while_kafka_does_not_answer(up: Uplink) -> None:
    silent = threading.Event()
    asked = FakeProducer.list_topics

    def answer(producer: FakeProducer, topic: str | None = None, timeout: float = -1) -> Any:
        if not silent.is_set():
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return asked(producer, topic, timeout)

    up.patch(FakeProducer, "list_topics", answer)
    instance = up.start()
    sent = up.publish(5)
    up.wait(lambda: len(up.batch_sizes) > 2)
    assert not instance.up.is_set()
    assert not up.broker.queues[QUEUE].consumers
    silent.set()
    up.finish()
    assert up.values() == sent


def test_a_topic_that_does_not_exist_is_waited_for_and_named_once(up: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    up.kafka.fail(KafkaError._UNKNOWN_TOPIC, count=5, topic=UP)
    instance = up.start()
    there = up.publish(3, to="sparkcluster")
    up.wait(lambda: up.values(BACK_END) == there)
    sent = up.publish(5)
    up.wait(lambda: len(up.batch_sizes) > 5)
    assert not instance.up.is_set()
    assert len([record for record in caplog.records if UP in str(vars(record).get("reason"))]) == 1
    up.kafka._failures.clear()
    up.kafka.create(UP)
    up.finish()
    assert up.values() == sent
    assert up.values(BACK_END) == there, "waiting repeated what was already there"


def test_kafka_that_confirms_nothing_but_answers_is_waited_for(up: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    up.patch(session, "PATIENCE", 0.05)
    up.kafka.hold()
    up.start()
    sent = up.publish(10)
    up.wait(lambda: sum(record.message == "Kafka confirms nothing" for record in caplog.records) > 1)
    up.kafka.release()
    up.finish()
    assert up.values() == sent
    assert len(up.batch_sizes) == 1, "a new session would have repeated records"


def test_kafka_that_cannot_be_reached_from_here_ends_the_session(up: Uplink) -> None:
    """Another instance may reach it; and a new producer reads changed secrets."""
    up.patch(session, "PATIENCE", 0.05)
    up.kafka.hold()
    up.start()
    sent = up.publish(10)
    produced(up, 10)
    up.kafka.producers[0].list_topics = _no_answer  # type: ignore[method-assign]
    up.wait(lambda: len(up.batch_sizes) > 1)
    up.kafka.release()
    up.finish()
    assert up.values() == sent


def _no_answer(*_: Any, **__: Any) -> Any:
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


# -- whatever happens

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 30)),
        st.tuples(st.just("back end"), st.integers(1, 30)),
        st.tuples(st.just("confirm"), st.integers(1, 40)),
        st.tuples(st.just("fail"), st.sampled_from([KafkaError.UNKNOWN, KafkaError._FATAL])),
        st.tuples(st.just("poison"), st.just(0)),
        st.tuples(st.just("huge"), st.just(0)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("second"), st.just(0)),
        st.tuples(st.just("stop first"), st.just(0)),
    ),
    max_size=15,
)


@given(EVENTS)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_nothing_is_acknowledged_that_kafka_has_not(events: list[tuple[str, int]]) -> None:
    with Uplink(prefetch=20) as up:
        up.patch(session, "DRAIN_TIMEOUT", 0.05)
        sent: dict[str, list[bytes]] = {UP: [], BACK_END: [], DEAD: []}
        huge: list[bytes] = []
        failed = False
        up.kafka.hold()
        instances = [up.start()]
        for event, number in events:
            match event:
                case "publish":
                    sent[UP] += up.publish(number)
                case "back end":
                    sent[BACK_END] += up.publish(number, to="sparkcluster")
                case "poison":
                    sent[DEAD] += up.publish(to="a,b")
                case "huge":
                    up.kafka.max_bytes = 10_000
                    huge += up.publish(size=20_000)
                case "confirm":
                    for producer in list(up.kafka.producers):
                        producer.confirm(number)
                case "fail":
                    failed = True
                    up.kafka.fail(number)
                case "drop":
                    for link in list(up.brokers.links):
                        link.drop("a test")
                case "crash":
                    up.broker.crash()
                    up.broker.restart()
                    up.device.connect()
                case "second":
                    instances.append(up.start())
                case "stop first" if len(instances) > 1:
                    run(instances.pop(0))()
        up.kafka.release()
        up.finish()
        assert sorted(set(up.given_back())) == sorted(set(huge))
        for topic, bodies in sent.items():
            found = [value for value in up.first(topic) if value]  # a letter without its payload has none
            assert set(found) == set(bodies)
            if not failed:  # the fake confirms what comes after a failed record, as the real client does
                assert found == bodies
