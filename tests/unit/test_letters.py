"""Dead letters tried again: by the present routes, once each, in order, whatever interrupts it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError as KafkaCode
from downlink import MQTT, SPARK, settings
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms import kafka as adapter
from kalinka_jms.config.settings import DEFAULT_DOWN, DEFAULT_UP, UpRoute
from kalinka_jms.dead import dead_letter, dead_record
from kalinka_jms.errors import KafkaError
from kalinka_jms.ops.letters import Letter, Retry, Wanted, letters
from kalinka_jms.ops.retry import Writer
from kalinka_jms.records import from_record
from kalinka_jms.routes import Downlinks, Uplinks
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.testing import FakeKafka

DEAD = "kalinka.dead"
Headers = list[tuple[str, bytes | None]]
NOT_ROUTED = b"/topic/plant.beast.up"
EVERY = Wanted()
PLANT = UpRoute(from_="plant/{source}/up", topic="{group}.plant", key="{source}")


class Town:
    """A Kafka with letters in it, and the retry of all that there are."""

    def __init__(self, *up: UpRoute, partitions: int = 3) -> None:
        self.kafka = FakeKafka(partitions)
        downlinks = Downlinks(DEFAULT_DOWN, ("0",))
        numbers = dict.fromkeys(downlinks.topics, partitions)
        self.retry = Retry(Uplinks((*up, *DEFAULT_UP), ("0",)), downlinks, DEAD, numbers)

    def message(self, body: bytes, destination: bytes = NOT_ROUTED, number: int = 1, elsewhere: str = "") -> None:
        head = b"MESSAGE\nmessage-id:ID\\cx-1\\c-1\\c1\\c%d\noriginal-destination:%b\npersistent:true" % (
            number,
            destination,
        )
        topic, key, value, headers = dead_letter(
            Frame(head, body), "dev1", "q", "no route", DEAD, 1.0, elsewhere=elsewhere
        )
        self.kafka.send(topic, value, key, headers=headers)

    def record(self, key: bytes | None, value: bytes | None, origin: str, headers: Headers = []) -> None:  # noqa: B006
        self.kafka.send(DEAD, value, key, headers=dead_record(headers, origin, origin, "denied", 1.0))

    def letters(self, wanted: Wanted = EVERY) -> list[Letter]:
        return letters(self.kafka.records(DEAD), wanted)

    def carry_out(self, wanted: Wanted = EVERY) -> Any:
        writer = Writer(settings(), self.retry)
        places = {letter.place for letter in self.letters(wanted)}
        records = self.kafka.records(DEAD)
        return writer.carry_out(r for r in records if (r.partition(), r.offset()) in places)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every town has its own Kafka: the one that was made last."""
    monkeypatch.setattr(adapter, "producer", lambda *args, **more: TOWNS[-1].kafka.producer(*args, **more))


TOWNS: list[Town] = []


def town(*up: UpRoute, partitions: int = 3) -> Town:
    TOWNS.append(Town(*up, partitions=partitions))
    return TOWNS[-1]


def test_a_message_goes_by_the_present_routes_to_its_topic() -> None:
    place = town(PLANT)
    place.message(b"\x00\xff")
    assert place.carry_out().sent == {"0.plant": 1}
    (record,) = place.kafka.records("0.plant")
    assert (record.key(), record.value()) == (b"beast", b"\x00\xff")
    assert record.headers() == [
        ("kalinka.id", b"dev1/ID:x-1:-1:1:1"),
        ("kalinka.source", b"beast"),
        ("mqtt.topic", b"plant/beast/up"),
        ("kalinka.attempt", b"2"),
    ]
    assert place.letters() == []


def test_a_message_that_is_refused_still_comes_back_one_attempt_older() -> None:
    place = town()
    place.message(b"\x00\xff")
    first = place.kafka.records(DEAD)[0]
    report = place.carry_out()
    assert (sum(report.back.values()), report.sent, report.left) == (1, {}, {})
    (letter,) = place.letters()
    assert (letter.attempt, letter.origin, letter.id) == (2, "dev1/q", "dev1/ID:x-1:-1:1:1")
    again = next(r for r in place.kafka.records(DEAD) if (r.partition(), r.offset()) == letter.place)
    assert again.value() == first.value() and dict(again.headers())["stomp.head"] == dict(first.headers())["stomp.head"]
    place.carry_out()
    assert [one.attempt for one in place.letters()] == [3]


@pytest.mark.parametrize("value", [None, b"", b"\x00\xff"])
@pytest.mark.parametrize("key", [None, b"", b"d1", b"\xff"])
def test_a_record_goes_back_to_its_partition_with_all_its_headers(key: bytes | None, value: bytes | None) -> None:
    place = town()
    headers: Headers = [("x", None), ("x", b"\xff"), ("kalinka.reason", b"mine"), ("", b""), ("kalinka.time", b"5")]
    place.record(key, value, f"{SPARK}/2/7", headers)
    assert place.carry_out().sent == {SPARK: 1}
    (record,) = place.kafka.records(SPARK, 2)
    assert (record.key(), record.value()) == (key, value)
    assert record.headers() == [*headers[:4], ("kalinka.id", b"%b/2/7" % SPARK.encode()), ("kalinka.attempt", b"2")]


def test_the_attempts_of_a_record_count_up() -> None:
    place = town()
    place.record(b"d1", b"x", f"{SPARK}/2/7", [("kalinka.attempt", b"4"), ("y", b"1")])
    assert [letter.attempt for letter in place.letters()] == [4]
    place.carry_out()
    (record,) = place.kafka.records(SPARK, 2)
    command = from_record(SPARK, 2, 0, record.key(), record.value(), record.headers(), 0)
    assert (command.attempt, command.id, record.headers()[0]) == (5, f"{SPARK}/2/7", ("y", b"1"))


def test_where_the_partition_is_gone_the_key_decides() -> None:
    place = town(partitions=2)
    place.record(b"d1", b"x", f"{SPARK}/9/7")
    place.carry_out()
    assert len(place.kafka.records(SPARK)) == 1


def test_what_cannot_be_tried_stays_as_it_is() -> None:
    place = town(PLANT)
    place.message(b"", elsewhere="dev1/ActiveMQ.DLQ")
    place.record(b"d1", b"x", "gone.topic/0/1")
    place.kafka.send(DEAD, b"strange")
    report = place.carry_out()
    assert sorted(report.left) == [
        "it has not the headers of a letter",
        "its value is at dev1/ActiveMQ.DLQ",
        "no route reads gone.topic any more",
    ]
    assert len(place.letters()) == 3 and not report.sent and not report.back


def test_only_those_that_are_wanted() -> None:
    place = town(PLANT)
    place.message(b"a")
    place.record(b"d1", b"b", f"{SPARK}/0/1")
    place.record(b"d2", b"c", f"{MQTT}/1/1")
    for wanted, count in (
        (Wanted(), 3),
        (Wanted(reason="NO ROUTE"), 1),
        (Wanted(origin="dev1"), 1),
        (Wanted(origin="dev1/q"), 1),
        (Wanted(origin="dev"), 0),
        (Wanted(origin=MQTT), 1),
        (Wanted(origin=f"{MQTT}/1"), 1),
        (Wanted(device="d1"), 1),
        (Wanted(device="beast"), 1),
        (Wanted(since=2e9), 3 if place.letters()[0].at >= 2e9 else 0),
        (Wanted(until=5.0), 0),
    ):
        assert len(place.letters(wanted)) == count, wanted
    place.carry_out(Wanted(device="d1"))
    assert sorted(letter.who for letter in place.letters()) == ["d2", "plant/beast/up"]


@given(st.lists(st.sampled_from([b"d1", b"d2", b"d3"]), max_size=40), st.data())
def test_each_is_tried_once_and_those_of_a_device_in_order_whatever_interrupts_it(
    records: list[bytes], data: st.DataObject
) -> None:
    place = town(partitions=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kalinka_jms.ops.retry.BATCH", 5)
        patch.setattr(adapter, "producer", lambda *args, **more: place.kafka.producer(*args, **more))
        for number, key in enumerate(records):
            place.record(key, b"%d" % number, f"{SPARK}/0/{number}")
        for code in data.draw(st.lists(st.sampled_from([KafkaCode.UNKNOWN, KafkaCode._FATAL]), max_size=3)):
            place.kafka.fail(code)
            try:
                place.carry_out()
            except KafkaError:
                continue
        place.kafka._failures.clear()
        place.carry_out()
        assert place.letters() == []
    back = [(record.key(), int(record.value())) for record in place.kafka.records(SPARK)]
    assert sorted(number for _, number in back) == list(range(len(records)))
    for key in (b"d1", b"d2", b"d3"):
        assert [n for k, n in back if k == key] == [n for n, k in enumerate(records) if k == key]


def test_who_begins_later_ends_the_retry_that_runs() -> None:
    place = town()
    for number in range(3):
        place.record(b"d1", b"%d" % number, f"{SPARK}/0/{number}")
    records = place.kafka.records(DEAD)
    earlier = Writer(settings(), place.retry)
    place.carry_out()
    with pytest.raises(KafkaError):
        earlier.carry_out(records)
    assert len(place.kafka.records(SPARK)) == 3


def test_one_that_kafka_does_not_take_comes_back_and_the_others_go() -> None:
    place = town()
    for number, size in enumerate((1, 900, 1)):
        place.record(b"d1", b"x" * size, f"{SPARK}/0/{number}")
    produce = place.kafka.producer

    def narrow(*args: Any, **more: Any) -> Any:
        made = produce(*args, **more)
        inner = made.produce

        def limited(topic: str, value: bytes | None = None, *rest: Any, **named: Any) -> None:
            if topic == SPARK and len(value or b"") > 500:
                place.kafka.fail(KafkaCode.MSG_SIZE_TOO_LARGE, topic=SPARK)
            inner(topic, value, *rest, **named)

        made.produce = limited
        return made

    place.kafka.producer = narrow  # type: ignore[method-assign]
    report = place.carry_out()
    assert (report.sent, list(report.back.values()), report.left) == ({SPARK: 2}, [1], {})
    (letter,) = place.letters()
    assert letter.attempt == 2 and letter.reason.startswith(f"Kafka refuses it in {SPARK}: ")
    assert letter.origin == f"{SPARK}/0/1"


def test_what_is_no_letter_is_listed_without_a_reason() -> None:
    place = town()
    place.kafka.send(DEAD, b"x", b"k")
    assert [(letter.reason, letter.who, letter.attempt) for letter in place.letters()] == [("no reason given", "k", 1)]
