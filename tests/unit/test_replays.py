"""What is parked comes back, in order, whenever there is a reason."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from downlink import MQTT, SPARK, Bench, record

from kalinka_jms.sub import replays as module
from kalinka_jms.sub.backlog import Loaded
from kalinka_jms.sub.parked import parked_key
from kalinka_jms.sub.share import Outcome

NAME = f"{MQTT},kafka"


def parked(bench: Bench, *values: bytes, device: str = "d1", name: str = NAME) -> list[tuple[int, bytes, int]]:
    """Records that were parked by somebody else, as the index is told of them."""
    log = bench.log.setdefault(("0.parked", 0), [])
    found = []
    for value in values:
        key = parked_key(device, name, f"old{len(log)}")
        log.append(record(len(log), key, value, "0.parked", headers=[("kalinka.id", b"old%d" % len(log))]))
        found.append((len(log) - 1, key, len(value)))
    return found


def ready(*values: bytes, link: bool = True, **sub: Any) -> Bench:
    """A share with parked records of a device that listens at b1."""
    bench = Bench(**sub)
    if link:
        bench.up("b1")
    bench.listens("d1", "b1")
    bench.open(0, parked(bench, *values))
    return bench


def test_a_device_that_listens_already_gets_its_records_when_the_partition_comes() -> None:
    bench = ready(b"1", b"2")
    bench.load()
    assert bench.sent("b1") == [b"1", b"2"]
    assert bench.prove("b1").sends[0][0] == "mqtt.kafka.mqtt.d1.sub"
    bench.commit()
    assert bench.books.replayed == {Outcome.DELIVERED: 2} and bench.books.taken == 0
    assert not bench.owners.pinned and bench.replays.loaded == bench.replays.loaded_bytes == 0


def test_tombstones_and_foreign_records_are_no_backlog(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.up("b1")
    bench.listens("d1", "b1")
    first, second = parked(bench, b"1", b"2")
    share = bench.open(0, [first, second, (2, first[1], None), (3, b"not a key", 5), (4, b"", None)])
    bench.load()
    assert bench.sent("b1") == [b"2"] and share.index.count == 1
    assert [entry.message for entry in caplog.records] == ["not a parked record"] * 2


@pytest.mark.parametrize("reason", ["device", "link", "zookeeper"])
def test_every_reason_to_look(reason: str) -> None:
    bench = Bench()
    if reason != "link":
        bench.up("b1")
    if reason == "zookeeper":
        bench.owners.forget_to_ask()
    if reason == "link":
        bench.listens("d1", "b1")
    bench.open(0, parked(bench, b"1"))
    assert bench.reader.loads == [] and bench.owners.pinned == {"d1"}
    if reason == "device":
        bench.listens("d1", "b1")
    elif reason == "link":
        bench.up("b1")
    else:
        bench.registry.listen("d1", "b1")
        bench.owners.learn()
        bench.tell()
    bench.load()
    assert bench.sent("b1") == [b"1"]


def test_a_device_that_listens_to_something_else_gets_nothing() -> None:
    bench = Bench()
    bench.up("b1")
    bench.open(0, parked(bench, b"1", name=f"{MQTT},friend") + parked(bench, b"2", name=f"{SPARK},"))
    bench.listens("d1", "b1", "sparkcluster/mqtt/d1/sub")
    bench.load()
    assert bench.sent("b1") == [b"2"]


def test_new_records_queue_behind_the_backlog() -> None:
    bench = ready(b"1", b"2")
    bench.take(record(1, "d1", b"3"))
    bench.load()
    bench.take(record(2, "d1", b"4"))
    assert bench.sent("b1") == [b"1", b"2"]
    bench.take(record(3, "d1", b"5"))
    bench.commit()
    bench.take(record(4, "d1", b"6"))
    bench.prove("b1")
    assert bench.sent("b1") == [b"3", b"4", b"5", b"6"], "3 was parked, the others waited for it and went with it"
    bench.prove("b1")
    bench.commit()
    assert bench.books.outcomes == {Outcome.PARKED: 1, Outcome.DELIVERED: 3}
    assert bench.books.replayed == {Outcome.DELIVERED: 3} and bench.balanced()


def test_a_stream_that_has_sent_all_it_may_keeps_what_waits_behind() -> None:
    bench = ready(b"1")
    bench.take(record(1, "d1", b"2"))
    bench.load()
    bench.take(record(2, "d1", b"3"))
    bench.prove("b1")
    assert bench.sent("b1") == []
    bench.commit()
    assert bench.sent("b1") == [b"2", b"3"]


def test_a_long_backlog_comes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    monkeypatch.setattr(module, "CHUNK_BYTES", 5)
    bench = ready(b"1", b"2", b"3", b"4444", b"55")
    seen = []
    while bench.reader.loads:
        seen.append([len(offsets) for _, offsets in bench.reader.loads])
        bench.load()
        bench.take(record(len(seen), "d1", b"new%d" % len(seen)))
        bench.prove("b1")
    assert seen == [[2], [2], [1]]


def test_memory_is_bounded_in_records_and_the_next_ones_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOADED", 2)
    bench = Bench()
    bench.up("b1")
    devices = [f"d{n}" for n in range(6)]
    for device in devices:
        bench.listens(device, "b1")
    bench.open(0, [entry for device in devices for entry in parked(bench, b"x", device=device)])
    for _ in range(3):
        assert bench.replays.loaded == 2
        bench.up("b1")  # asks for everything again: nobody is in the line twice
        bench.load()
        bench.prove("b1")
    assert bench.replays.loaded == 0 and bench.outlets["b1"].written == []
    assert bench.books.replayed == {Outcome.DELIVERED: 6}


def test_memory_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOADED_BYTES", 10)
    bench = Bench()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.listens("d2", "b1")
    bench.open(0, parked(bench, b"x" * 10) + parked(bench, b"y" * 10, device="d2"))
    assert bench.replays.loaded == 1


def test_those_in_line_go_on_when_the_ones_before_them_are_parked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing drains then: the room itself must be noticed."""
    monkeypatch.setattr(module, "LOADED", 1)
    bench = Bench()
    bench.up("b1", "b2")
    bench.listens("d1", "b1")
    bench.listens("d2", "b2")
    share = bench.open(0, parked(bench, b"1") + parked(bench, b"2", device="d2"))
    bench.load()
    (broker,) = (name for name in ("b1", "b2") if bench.sent(name))
    bench.prove(broker, absent=[0])
    bench.wait(0.3)
    bench.load()
    (other,) = {"b1", "b2"} - {broker}
    assert len(bench.sent(other)) == 1 and share.replaying == 1


def test_not_reached_though_it_is_said_to_listen_is_tried_again_later_and_later() -> None:
    bench = ready(b"1")
    waits = []
    for _ in range(8):
        bench.load()
        bench.prove("b1", absent=[0])
        seconds = 0
        while not bench.reader.loads:
            bench.wait(1)
            seconds += 1
        waits.append(seconds)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("event", ["link", "device"])
def test_the_time_to_the_next_attempt_ends_with_an_event(event: str) -> None:
    bench = ready(b"1")
    bench.load()
    bench.prove("b1", absent=[0])
    assert not bench.reader.loads
    if event == "link":
        bench.up("b2")
    else:
        bench.listens("d1", "b2")
        bench.up("b2")
    assert bench.reader.loads


def test_a_time_that_runs_out_while_the_link_is_down_is_no_reason_to_wait_for_ever() -> None:
    """There is nothing to do then, and when the link is back there must be."""
    bench = ready(b"1")
    bench.load()
    bench.prove("b1", absent=[0])
    bench.down("b1", "b1-1")
    bench.wait(2)
    assert not bench.reader.loads
    bench.up("b1")
    bench.load()
    assert bench.sent("b1") == [b"1"]


def test_a_time_that_runs_out_before_the_record_is_parked_is_no_reason_either() -> None:
    bench = Bench()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.open()
    bench.take(record(1, "d1", b"1"))
    bench.prove("b1", absent=[0])
    bench.wait(2)  # Kafka takes its time
    bench.commit()
    bench.load()
    assert bench.sent("b1") == [b"1"]


def test_what_is_gone_from_kafka_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    bench = ready(b"1", b"2", b"3")
    ((share, offsets),) = bench.reader.loads
    log = bench.log["0.parked", 0]
    with caplog.at_level(logging.WARNING):
        for offset in offsets:
            bench.streams.read(Loaded(share, offset, None if offset == 1 else log[offset]), 0.0)
    bench.settle()
    assert bench.sent("b1") == [b"1", b"3"] and share.index.count == 2 and bench.replays.loaded == 2
    assert [entry.message for entry in caplog.records] == ["a parked record is gone from Kafka"]


def test_parked_records_without_a_route_are_dead_whether_the_device_listens_or_not() -> None:
    """They must not stop the instance when it indexes them, nor lie there for ever."""
    bench = Bench()
    share = bench.open(0, parked(bench, b"1", b"2", name="gone,s"))
    bench.load()
    assert [(write.topic, write.value) for _, write in bench.commit().writes] == [
        ("kalinka.dead", b"1"),
        ("kalinka.dead", b"2"),
    ]
    assert bench.replays.loaded == 0 and not share.streams and not bench.owners.pinned


def test_handing_over_a_backlog_goes_on_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    bench = Bench()
    share = bench.open(0, parked(bench, b"1", b"2", b"3", b"4", b"5"))
    bench.listens("d1", "far")
    for _ in range(3):
        bench.load()
    while bench.commit().writes:
        pass
    assert [message.value() for message in bench.log["1.mqtt.mqtt", 0]] == [b"1", b"2", b"3", b"4", b"5"]
    assert bench.books.replayed == {Outcome.MOVED: 5} and not bench.owners.pinned
    assert share.index.count == share.replaying == 0
    assert sum(message.value() is None for message in bench.log["0.parked", 0]) == 5


def test_what_waits_behind_records_on_their_way_into_the_topic_is_not_handed_over_before_them() -> None:
    bench = ready(b"1")
    bench.take(record(1, "d1", b"2"))  # parked: the first is being read
    bench.load()
    bench.take(record(2, "d1", b"3"))  # behind it
    assert bench.sent("b1") == [b"1"]
    bench.listens("d1", "far")
    bench.prove("b1", absent=[0])
    for _ in range(5):
        bench.commit()
        bench.load()
    assert [message.value() for message in bench.log["1.mqtt.mqtt", 0]] == [b"1", b"2", b"3"]


def test_without_room_what_was_parked_just_now_is_left_in_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what waits behind it follows it there, or would overtake it."""
    bench = ready(b"1")
    bench.take(record(1, "d1", b"2"))
    bench.load()
    bench.take(record(2, "d1", b"3"))
    monkeypatch.setattr(module, "LOADED", 1)
    bench.commit()
    assert bench.replays.loaded == 1
    assert [write.value for _, write in bench.commit().writes] == [b"3"]
    bench.prove("b1")
    bench.load()
    assert bench.sent("b1") == [b"2", b"3"]


@pytest.mark.parametrize("when", ["loading", "flying", "later"])
def test_a_share_that_ends_takes_everything_with_it(when: str) -> None:
    bench = ready(b"1", b"2")
    (share,) = bench.shares
    bench.take(record(1, "d2"), record(2, "d1"))
    loads = [*bench.reader.loads]
    if when != "loading":
        bench.load()
    if when == "later":
        bench.prove("b1", absent=[0])
    bench.close(share)
    replays = bench.replays
    assert (replays.loaded, replays.loaded_bytes, bench.owners.pinned) == (0, 0, set())
    assert not (replays._queue or replays._delays or replays._timers or replays._due or replays._looks)
    bench.reader.loads = loads
    bench.load()
    if when == "flying":
        bench.prove("b1")
    assert replays.loaded == 0 and bench.balanced() and bench.books.given_back == 2
    bench.open(0, parked(bench, b"3"))
    bench.load()
    assert bench.sent("b1") == [b"3"]


def test_a_big_backlog_is_looked_at_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKS", 10)
    bench = Bench()
    bench.listens("d1", "b1")
    share = bench.open(0, [entry for n in range(25) for entry in parked(bench, b"x", device=f"d{n}")])
    looks = 0
    bench.replays.everything([share])
    while bench.replays.busy:
        bench.replays.look()
        looks += 1
    assert looks == 3
