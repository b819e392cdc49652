"""What runs out of time or of room is `expired`, wherever it waits, and never sent."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from downlink import MQTT, SPARK, Bench, record

from kalinka_jms.sub import expiry as module
from kalinka_jms.sub.parked import parked_key
from kalinka_jms.sub.share import Outcome

SOURCE = [("kalinka.source", b"s")]
STREAM = f"{MQTT},s"


def at(bench: Bench, offset: int, device: str = "d1", age: float = 0.0, **more: Any) -> Any:
    """A record that is `age` seconds old now; its value is its offset."""
    time = int((bench.born + bench.now - age) * 1000)
    return record(offset, device, b"%d" % offset, headers=SOURCE, time=time, **more)


def tombstones(batch: Any) -> list[bytes]:
    return [write.key for _, write in batch.writes if write.value is None]


def parked(bench: Bench, *ages: float) -> Any:
    """A share with one parked record for each age, of an absent device."""
    share = bench.open()
    for offset, age in enumerate(ages):
        bench.take(at(bench, offset, age=age))
        bench.commit()
    return share


def test_a_record_that_comes_too_late_is_expired_at_once() -> None:
    bench = Bench(ttl=60.0)
    share = bench.open()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.take(at(bench, 0, age=60), at(bench, 1, age=59))
    assert bench.sent("b1") == [b"1"]
    assert bench.books.outcomes == {Outcome.EXPIRED: 1} and share.pending == 1 and bench.balanced()


def test_without_a_limit_nothing_expires() -> None:
    bench = Bench()
    share = parked(bench, 10_000_000.0)
    bench.wait(10_000_000)
    assert share.index.count == 1 and bench.books.outcomes == {Outcome.PARKED: 1}


def test_a_route_has_a_limit_of_its_own() -> None:
    bench = Bench(ttl=1000.0, down=[{"from": MQTT, "to": "mqtt/{source}/mqtt/{device}/sub", "ttl": 10.0}])
    bench.open()
    bench.take(at(bench, 0, age=11))
    assert bench.books.outcomes == {Outcome.EXPIRED: 1}


def test_a_record_without_a_time_never_gets_old() -> None:
    bench = Bench(ttl=1.0)
    bench.open()
    bench.take(record(0, time=0), record(1, time=-1))
    assert bench.books.outcomes == {}


def test_what_waits_for_word_of_its_device_is_not_sent_late() -> None:
    bench = Bench(ttl=5.0, ack_timeout=60.0)
    share = bench.open()
    bench.up("b1")
    bench.registry.listen("d1", "b1")
    bench.owners.forget_to_ask()
    bench.take(at(bench, 0), at(bench, 1, age=-10))
    bench.now += 6
    bench.owners.learn()
    bench.tell()
    assert bench.sent("b1") == [b"1"] and bench.books.outcomes == {Outcome.EXPIRED: 1}
    bench.prove("b1")
    assert share.pending == 0 and not share.active and not share.streams and bench.balanced()


def test_what_comes_back_undelivered_is_not_tried_again_late() -> None:
    bench = Bench(ttl=5.0)
    share = bench.open()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.take(at(bench, 0))
    bench.now += 6
    bench.prove("b1", absent=[0])
    assert bench.books.outcomes == {Outcome.EXPIRED: 1} and not share.writes and not share.streams


def test_what_is_parked_gets_its_tombstone_while_nobody_looks() -> None:
    bench = Bench(ttl=10.0)
    share = parked(bench, 0, 0, -5)
    bench.wait(9)
    assert not share.writes
    bench.wait(1)
    assert tombstones(bench.commit()) == [parked_key("d1", STREAM, f"{MQTT}/0/{n}") for n in (0, 1)]
    assert bench.books.replayed == {Outcome.EXPIRED: 2} and share.index.count == 1 and share.pinned == {"d1"}
    bench.wait(5)
    assert share.index.count == 0 and not share.pinned and not bench.owners.pinned


def test_the_time_is_that_of_the_record_and_not_of_its_parking() -> None:
    bench = Bench(ttl=10.0)
    share = parked(bench, 9)
    assert bench.log["0.parked", 0][0].timestamp()[1] == int((bench.born - 9) * 1000)
    bench.wait(1.0)
    assert share.index.count == 0


def test_a_new_owner_of_the_partition_goes_on_from_the_same_time() -> None:
    bench = Bench(ttl=10.0)
    key = parked_key("d1", STREAM, "i")
    share = bench.open(parked=[(3, key, 1)], time=int((bench.born - 11) * 1000))
    bench.wait(1.0)
    assert tombstones(bench.commit()) == [key] and share.index.count == 0


def test_what_ran_out_of_time_while_parked_is_not_replayed() -> None:
    bench = Bench(ttl=10.0)
    share = parked(bench, 0, -5)
    bench.up("b1")
    bench.listens("d1", "b1")  # both are asked for, and come 12 s later
    bench.now += 12
    bench.load()
    assert bench.sent("b1") == [b"1"] and bench.books.replayed == {Outcome.EXPIRED: 1}
    bench.prove("b1")
    assert share.index.count == share.replaying == bench.replays.loaded == 0 and not share.pinned


def test_what_is_on_its_way_from_kafka_is_left_alone() -> None:
    bench = Bench(ttl=10.0, max_parked=1)
    share = parked(bench, 0)
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.wait(11)
    assert share.loading and share.index.count == 1, "its record comes, and is looked at then"
    bench.load()
    assert bench.books.replayed == {Outcome.EXPIRED: 1} and not share.loading and share.replaying == 0


def test_an_old_record_behind_a_younger_one_waits_for_it() -> None:
    bench = Bench(ttl=10.0)
    share = parked(bench, 0, 9)
    bench.wait(5)
    assert share.index.count == 2
    bench.wait(5)
    assert share.index.count == 0 and bench.books.replayed == {Outcome.EXPIRED: 2}


def test_the_oldest_leaves_where_there_is_no_room() -> None:
    bench = Bench(max_parked=2)
    share = bench.open()
    bench.take(*(at(bench, offset) for offset in range(3)))
    bench.commit()
    assert tombstones(bench.commit()) == [parked_key("d1", STREAM, f"{MQTT}/0/0")]
    assert share.index.count == 2 and bench.books.replayed == {Outcome.EXPIRED: 1}
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.load()
    assert bench.sent("b1") == [b"1", b"2"]


def test_the_limit_is_the_routes_whatever_the_source() -> None:
    bench = Bench(max_parked=2)
    share = bench.open()
    for offset, (source, topic) in enumerate([(b"x", MQTT), (b"y", MQTT), (b"x", SPARK), (b"z", MQTT), (b"z", MQTT)]):
        bench.take(record(offset, "d1", headers=[("kalinka.source", source)], topic=topic))
        bench.commit()
    bench.commit()
    assert {name: share.index.backlog("d1", name) for name in share.index.topics("d1")} == {
        f"{SPARK},": [2],
        f"{MQTT},z": [3, 5],  # 4 and 6 are tombstones
    }


def test_a_limit_that_was_lowered_counts_for_what_is_there() -> None:
    bench = Bench(max_parked=2)
    keys = [parked_key(device, STREAM, f"{n}") for n in range(5) for device in ("d1", "d2")]
    share = bench.open(parked=[(offset, key, 1) for offset, key in enumerate(keys)])
    bench.wait(1)
    assert sorted(tombstones(bench.commit())) == sorted(keys[:6])
    assert share.index.backlog("d1", STREAM) == [6, 8]


def test_a_tick_does_a_bounded_part_and_the_next_one_goes_on() -> None:
    bench = Bench(max_parked=1)
    share = bench.open(parked=[(n, parked_key(f"d{n % 3}", STREAM, f"{n}"), 1) for n in range(30)])
    with patch.multiple(module, LOOKS=2, ENDED=5):
        bench.wait(1)
        assert share.index.count == 25
        for _ in range(20):
            bench.wait(0.25)
            bench.commit()
    assert share.index.count == 3 and bench.books.replayed == {Outcome.EXPIRED: 27}


def test_it_stops_while_kafka_takes_nothing() -> None:
    bench = Bench(max_parked=1)
    share = bench.open(parked=[(n, parked_key("d1", STREAM, f"{n}"), 1) for n in range(30)])
    with patch.object(module, "ENDED", 5):
        for _ in range(9):
            bench.wait(1)
    assert len(share.writes) == 5


def test_a_handed_over_record_keeps_its_time() -> None:
    bench = Bench(ttl=10.0)
    bench.open()
    bench.listens("d1", "far")
    bench.take(at(bench, 0, age=9))
    ((_, write),) = bench.commit().writes
    assert dict(write.headers)["kalinka.time"] == b"%d" % ((bench.born - 9) * 1000) and write.timestamp == 0
    bench.take(record(1, "d2", headers=write.headers, time=int(bench.born * 1000)))
    bench.wait(1)
    bench.commit()
    bench.wait(1)
    assert bench.books.replayed == {Outcome.EXPIRED: 1}


@pytest.mark.parametrize("outcome", [True, False])
def test_what_is_refused_by_kafka_is_ended_once_it_takes_it(outcome: bool) -> None:
    bench = Bench(ttl=10.0)
    share = parked(bench, 0)
    bench.wait(10)
    assert tombstones(bench.commit(succeeds=outcome)) and share.index.count == 0
    assert bool(tombstones(bench.commit())) is not outcome
    assert bench.books.replayed == {Outcome.EXPIRED: 1}
