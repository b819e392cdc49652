"""What is parked for a device is dropped on request: exactly what was parked before it, while sub runs."""

from __future__ import annotations

from typing import Any

from downlink import MQTT, Bench, record
from test_expiry import SOURCE, STREAM, tombstones
from test_sub import PARKED, World, balanced, values
from test_sub import world as world  # noqa: PLC0414 (a fixture)

from kalinka_jms.sub.parked import drop_key, parked_key, parse_drop_key
from kalinka_jms.sub.share import Outcome


def parked(bench: Bench, count: int) -> Any:
    share = bench.open()
    for offset in range(count):
        bench.take(record(offset, "d1", b"%d" % offset, headers=SOURCE))
        bench.commit()
    return share


def key(number: int) -> bytes:
    return parked_key("d1", STREAM, f"{MQTT}/0/{number}")


def test_a_request_is_told_from_everything_else() -> None:
    assert parse_drop_key(drop_key("d1")) == "d1"
    assert [parse_drop_key(one) for one in (None, b"", b"/drop", b"//drop", key(0), b"x/d1/drop")] == [None] * 6


def test_what_was_parked_before_the_request_goes_and_the_rest_stays() -> None:
    bench = Bench()
    share = parked(bench, 4)
    bench.streams.dropped(share, "d1", 2)
    bench.wait(0)
    assert tombstones(bench.commit()) == [key(0), key(1), drop_key("d1")] and not share.drops
    assert share.index.backlog("d1", STREAM) == [2, 3] and bench.books.replayed == {Outcome.EXPIRED: 2}


def test_what_is_in_flight_is_delivered_and_what_comes_back_is_not_sent_again() -> None:
    bench = Bench(transaction=2)
    share = parked(bench, 4)
    bench.up("b1", "b2")
    bench.listens("d1", "b1")
    bench.load()
    assert bench.sent("b1") == [b"0", b"1"]
    bench.streams.dropped(share, "d1", 9)
    bench.wait(0)
    assert share.drops and share.index.count == 4, "they are in memory"
    bench.prove("b1", absent=[1])
    bench.listens("d1", "b2")
    assert bench.sent("b2") == [] and bench.books.replayed == {Outcome.DELIVERED: 1, Outcome.EXPIRED: 3}
    bench.wait(0)
    assert tombstones(bench.commit())[-1] == drop_key("d1")
    assert share.index.count == share.replaying == 0 and not share.pinned


def test_what_is_being_read_is_not_sent() -> None:
    bench = Bench()
    share = parked(bench, 2)
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.streams.dropped(share, "d1", 9)
    bench.wait(0)
    assert share.loading and share.drops
    bench.load()
    bench.wait(0)
    assert bench.sent("b1") == [] and bench.books.replayed == {Outcome.EXPIRED: 2} and not share.drops


def test_what_kafka_has_but_did_not_say_so_yet_goes_too() -> None:
    bench = Bench()
    share = bench.open()
    bench.take(record(0, "d1", b"0", headers=SOURCE))
    batch = bench.books.batch(bench.shares)  # on its way, at offset 0
    bench.streams.dropped(share, "d1", 1)
    bench.wait(0)
    assert share.drops
    batch.committed = True
    for _, write in batch.writes:
        write.offset = bench.append(write)
    bench.streams.done(batch, bench.now)
    bench.wait(0)
    assert tombstones(bench.commit()) == [key(0), drop_key("d1")] and share.index.count == 0 and not share.drops


def test_a_request_that_nobody_carried_out_is_found_with_the_index() -> None:
    bench = Bench()
    share = bench.open(parked=[(0, key(0), 1), (1, drop_key("d1"), 4), (2, key(2), 1)])
    bench.wait(0)
    assert share.index.backlog("d1", STREAM) == [2] and tombstones(bench.commit()) == [key(0), drop_key("d1")]
    share = bench.open(1, parked=[(0, key(0), 1), (1, drop_key("d1"), 4), (2, drop_key("d1"), None)])
    assert share.index.count == 1 and not share.drops


def test_a_running_instance_notices(world: World) -> None:
    sub = world.sub()
    world.send("away", 5)
    assert world.wait(lambda: len(world.kafka.records(PARKED)) == 5)
    world.kafka.send(PARKED, b"drop", drop_key("away"), partition=0)
    assert world.wait(lambda: sub.books.replayed == {Outcome.EXPIRED: 5})
    world.send("away", 2)
    device = world.device("away", "b1")
    assert world.wait(lambda: len(device.received) == 2)
    assert values(device) == [5, 6] and balanced(sub)
    kept = {one.key(): one.value() for one in world.kafka.records(PARKED)}
    assert world.wait(lambda: not any({one.key(): one.value() for one in world.kafka.records(PARKED)}.values())), kept


def test_whoever_has_the_partition_next_carries_it_out(world: World) -> None:
    first = world.sub()
    world.send("away", 5)
    assert world.wait(lambda: len(world.kafka.records(PARKED)) == 5)
    first.stop()
    first.join(10)
    world.kafka.send(PARKED, b"drop", drop_key("away"), partition=0)
    second = world.sub()
    assert world.wait(lambda: second.books.replayed == {Outcome.EXPIRED: 5})
