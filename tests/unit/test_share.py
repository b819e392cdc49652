"""What an instance holds of one partition: offsets, streams, and what it has seen before."""

from __future__ import annotations

import gc
import weakref

import pytest
from downlink import MQTT, SPARK, Bench, record
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.config.settings import DEFAULT_DOWN, Sub
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub import share as module
from kalinka_jms.sub.items import Items
from kalinka_jms.sub.share import Item, Share

ITEMS = Items(Downlinks(DEFAULT_DOWN, ("0",)), Sub())


def item(offset: int, device: str = "d1", id: str = "", hops: int = 0, topic: str = MQTT, source: str = "s") -> Item:
    headers = [("kalinka.source", source.encode()), ("kalinka.hops", b"%d" % hops)]
    if id:
        headers.append(("kalinka.id", id.encode()))
    return ITEMS.fresh(record(offset, device, topic=topic, headers=headers))


def test_what_was_taken_is_not_taken_again() -> None:
    share = Share("0", 3)
    assert share.begin(MQTT, 5) and share.begin(MQTT, 7) and share.begin(SPARK, 5)
    assert not share.begin(MQTT, 7) and not share.begin(MQTT, 6)


def test_what_begins_again_within_a_run_was_taken_before() -> None:
    share = Share("0", 3)
    assert list(share.begin(MQTT, 100, 101, 5, 101, 102)) == [0, 1, 4]
    assert list(share.begin(MQTT, 6, 103, 104, 7)) == [1, 2]
    share.finish(MQTT, 100, 101, 102, 103)
    assert list(share.positions()) == [(MQTT, 104)]


def test_a_share_that_ended_is_gone_with_all_its_records() -> None:
    """It would stay until gc finds it: with the service's thresholds that is long after the next partitions came."""
    bench = Bench()
    bench.up("b1")
    bench.registry.listen("d1", "b1")
    bench.open()
    bench.take(record(1, "d1"), record(2, "away"))
    gc.disable()
    try:
        there = weakref.ref(bench.shares[0])
        bench.close(bench.shares[0])
        bench.prove("b1")
        bench.reader.closed.clear()
        assert there() is None
    finally:
        gc.enable()


def test_a_position_is_known_as_soon_as_something_was_taken() -> None:
    """A transaction needs one, or nobody notices that the group has moved on."""
    share = Share("0", 3)
    assert list(share.positions()) == []
    share.begin(MQTT, 5)
    assert list(share.positions()) == [(MQTT, 5)]


def test_only_what_moved_is_committed() -> None:
    share = Share("0", 3)
    for offset in (5, 7, 8):
        share.begin(MQTT, offset)
    share.finish(MQTT, 7)
    assert list(share.moved()) == [(MQTT, 5)]
    share.finish(MQTT, 5)
    assert list(share.moved()) == [(MQTT, 8)]
    share.committed(MQTT, 8)
    assert list(share.moved()) == [] and list(share.positions()) == [(MQTT, 8)]


@given(st.permutations(range(0, 40, 3)))
def test_no_position_passes_what_is_not_finished(order: list[int]) -> None:
    share, unfinished = Share("0", 0), sorted(order)
    for offset in unfinished:
        share.begin(MQTT, offset)
    for offset in order:
        share.finish(MQTT, offset)
        unfinished.remove(offset)
        ((_, position),) = share.positions()
        done = [other for other in sorted(order) if other not in unfinished and other < min(unfinished, default=99)]
        assert position == (done[-1] + 1 if done else 0)


def test_a_stream_that_another_took_the_place_of_forgets_only_itself() -> None:
    share = Share("0", 0)
    old = share.stream("d1", MQTT)
    share.forget(old)
    new = share.stream("d1", MQTT)
    share.forget(old)
    assert share.stream("d1", MQTT) is new


@pytest.mark.parametrize(
    "other",
    [
        item(2, id="y"),
        item(2, id="x", hops=1),
        item(2, device="d2", id="x"),
        item(2, topic=SPARK, id="x"),
        item(2, source="t", id="x"),
    ],
    ids=["id", "hops", "device", "topic", "source"],
)
def test_a_record_is_the_same_only_in_its_stream_with_its_id_and_hops(other: Item) -> None:
    """One message sent on to several devices, with its headers, is not a duplicate."""
    share = Share("0", 0)
    share.window.add(item(1, id="x").mark)
    assert share.known(item(2, id="x")) and not share.known(other)


def test_what_is_parked_or_on_its_way_is_known() -> None:
    share, new = Share("0", 0), item(1, id="x")
    share.active.add(new.mark)
    assert share.known(item(2, id="x"))
    share.active.clear()
    assert not share.known(item(2, id="x"))
    share.index.add(*new.mark[:3], 0, 1)
    assert share.known(item(2, id="x"))


def test_the_memory_of_what_was_delivered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    share = Share("0", 0)
    for offset in (1, 2, 3, 4):
        share.window.add(item(offset).mark)
    assert [share.known(item(offset)) for offset in (1, 2, 3, 4)] == [False, False, True, True]


def test_a_record_goes_behind_what_is_parked_or_about_to_be() -> None:
    share = Share("0", 0)
    assert not share.blocked("d1", MQTT)
    share.parking["d1", MQTT] += 1
    assert share.blocked("d1", MQTT) and not share.blocked("d2", MQTT)
    share.parking.clear()
    share.index.add("d1", MQTT, "x", 0, 1)
    assert share.blocked("d1", MQTT) and not share.blocked("d1", SPARK)
    share.index.load("d1", MQTT, 0)
    assert not share.blocked("d1", MQTT)


def test_asking_leaves_nothing_behind() -> None:
    share = Share("0", 0)
    share.blocked("d1", MQTT)
    assert not share.parking and not share.index.devices()
