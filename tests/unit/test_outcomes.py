"""Every record gets one outcome, and nothing is committed before it."""

from __future__ import annotations

import pytest
from downlink import MQTT, SPARK, Bench, record

from kalinka_jms.dead import KALINKA_ORIGIN, KALINKA_REASON, KALINKA_VALUE, TRAILER, split
from kalinka_jms.records import KALINKA_HOPS, KALINKA_ID
from kalinka_jms.sub import outcomes as module
from kalinka_jms.sub.commits import Batch
from kalinka_jms.sub.parked import parked_key
from kalinka_jms.sub.share import Outcome

HEADERS = [("kalinka.source", b"s"), ("kalinka.id", b"i"), ("other", None)]


def places(batch: Batch) -> list[tuple[int, str, int]]:
    return [(share.partition, topic, offset) for share, topic, offset in batch.offsets]


def values(batch: Batch) -> list[bytes | None]:
    return [write.value for _, write in batch.writes]


def test_a_record_for_an_absent_device_is_parked_byte_for_byte_where_it_came_from() -> None:
    bench = Bench()
    share = bench.open(4)
    bench.take(record(7, "d1", b"\x00x", partition=4, headers=HEADERS))
    assert (bench.books.outcomes, share.pending) == ({}, 1), "its outcome is final when Kafka has it"
    ((_, write),) = (batch := bench.commit()).writes
    assert (write.topic, write.partition, write.value) == ("0.parked", 4, b"\x00x")
    assert write.key == parked_key("d1", f"{MQTT},s", "i")
    assert write.headers == [*HEADERS, (KALINKA_ORIGIN, f"{MQTT}/4/7".encode())]
    assert places(batch) == [(4, MQTT, 8)]
    assert bench.books.outcomes == {Outcome.PARKED: 1} and share.pending == share.pending_bytes == 0


def test_a_record_without_an_id_is_parked_with_the_one_it_has() -> None:
    bench = Bench()
    bench.open()
    bench.take(record(7))
    ((_, write),) = bench.commit().writes
    assert dict(write.headers)[KALINKA_ID] == f"{MQTT}/0/7".encode()


def test_a_dead_record_is_kept_with_reason_and_origin() -> None:
    bench = Bench()
    bench.open()
    bench.take(record(7, None, b"x", headers=HEADERS), record(8, "d,1"), record(9, "d1", None))
    batch = bench.commit()
    assert [(write.topic, write.key, write.value) for _, write in batch.writes] == [
        ("kalinka.dead", None, b"x"),
        ("kalinka.dead", b"d,1", b""),
        ("kalinka.dead", b"d1", None),
    ]
    headers = batch.writes[0][1].headers
    assert headers[:3] == HEADERS and dict(headers)[KALINKA_ORIGIN] == f"{MQTT}/0/7".encode()
    assert dict(headers)[KALINKA_REASON] == b"no key: the key is the device"
    assert bench.books.outcomes == {Outcome.DEAD: 3} and places(batch) == [(0, MQTT, 10)]


def test_a_moved_record_has_one_hop_more() -> None:
    bench = Bench()
    bench.open()
    bench.listens("d1", "far")
    bench.take(record(7, "d1", b"x", headers=HEADERS), record(8, "d1", headers=[("kalinka.hops", b"2")]))
    batch = bench.commit()
    assert [(write.topic, write.key, write.value) for _, write in batch.writes] == [
        ("1.mqtt.mqtt", b"d1", b"x"),
        ("1.mqtt.mqtt", b"d1", b""),
    ]
    assert [dict(write.headers)[KALINKA_HOPS] for _, write in batch.writes] == [b"1", b"3"]
    assert bench.books.outcomes == {Outcome.MOVED: 2}


def test_what_waits_keeps_its_offset() -> None:
    bench = Bench()
    bench.open()
    bench.listens("d1", "b1")
    bench.take(record(7, "d1"), record(8, "away"))
    assert places(bench.commit()) == [(0, MQTT, 7)], "where reading began, for the group to object to"


def test_a_transaction_always_has_an_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would go through where the group has moved on, and an instance that was replaced could park."""
    bench = Bench()
    bench.open()
    bench.listens("d1", "b1")
    bench.take(record(7, "d1"))
    bench.commit()
    bench.take(record(8, "away"))
    batch = bench.commit()
    assert len(batch.writes) == 1 and places(batch) == [(0, MQTT, 7)]


def test_so_has_one_of_replays_alone() -> None:
    """Nothing new was taken yet: what came of a parked record would be written by one that has it no more."""
    bench = Bench()
    key = parked_key("d1", "gone.topic,s", "i")
    bench.log["0.parked", 0] = [record(0, key, b"x", "0.parked")]
    bench.open(0, [(0, key, 1)])
    bench.load()
    batch = bench.commit()
    assert [write.topic for _, write in batch.writes] == ["kalinka.dead"] and places(batch) == [(0, "0.parked", 1)]


def test_a_refused_batch_is_whole_in_the_next_one_whatever_that_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records count as finished: a batch without them, of other records or of offsets alone, would lose them."""
    monkeypatch.setattr(module, "BATCH_RECORDS", 4)
    bench = Bench()
    bench.open(0)
    bench.open(1)
    for partition in (0, 1):
        bench.take(*(record(n, "away", b"%d%d" % (partition, n), partition=partition) for n in (1, 2)))
    refused = bench.commit(succeeds=False)
    assert values(refused) == [b"01", b"02", b"11", b"12"]
    assert bench.books.outcomes == {} and bench.books.refused
    bench.take(*(record(n, "away", b"0%d" % n) for n in (3, 4, 5)))
    again = bench.commit(succeeds=False)
    assert values(again) == values(refused), "in their order, and full: no other"
    assert sorted(places(again)) == [(0, MQTT, 3), (1, MQTT, 3)], "nothing behind them"
    assert values(bench.commit()) == values(refused)
    assert values(bench.commit()) == [b"03", b"04", b"05"]
    assert bench.books.outcomes == {Outcome.PARKED: 7} and bench.balanced()


def test_bytes_bound_a_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 10)
    bench = Bench()
    bench.open()
    bench.take(*(record(n, "away", b"x" * 6) for n in range(3)))
    assert [len(bench.commit().writes) for _ in range(3)] == [2, 1, 0]


def test_a_share_that_ended_is_given_back_and_not_committed() -> None:
    bench = Bench()
    share = bench.open()
    bench.take(record(1, "away"), record(2, "away"))
    bench.commit(succeeds=False)
    bench.close(share)
    assert (bench.books.given_back, bench.balanced()) == (2, True)
    batch = bench.commit()
    assert not batch.writes and not batch.offsets


def test_an_answer_that_comes_after_the_end_of_the_share_counts_nothing() -> None:
    bench = Bench()
    share = bench.open()
    bench.take(record(1, "away"))
    batch = bench.books.batch(bench.shares)
    bench.close(share)
    batch.committed = True
    bench.streams.done(batch, 0.0)
    assert bench.books.outcomes == {} and bench.books.given_back == 1 and bench.balanced()


def refuse(bench: Bench, *reasons: str) -> None:
    """A batch comes back, these of its writes refused for good."""
    batch = bench.books.batch(bench.shares)
    for (_, write), reason in zip(batch.writes, reasons, strict=True):
        write.refused = reason
    bench.streams.done(batch, bench.now)


def test_what_kafka_refuses_to_park_is_dead() -> None:
    """It must neither stop what comes after it nor vanish."""
    bench = Bench()
    share = bench.open()
    bench.take(record(1, "away", b"large", headers=HEADERS), record(2, "away", b"small"))
    refuse(bench, "too large", "")
    batch = bench.commit()
    assert [(write.topic, write.value) for _, write in batch.writes] == [
        ("kalinka.dead", b"large"),
        ("0.parked", b"small"),
    ]
    assert batch.writes[0][1].key == b"away"
    headers = batch.writes[0][1].headers
    assert headers[:3] == HEADERS
    assert dict(headers)[KALINKA_REASON] == b"Kafka refuses it in 0.parked: too large"
    assert bench.books.outcomes == {Outcome.DEAD: 1, Outcome.PARKED: 1} and bench.balanced()
    assert not share.parking and not share.active
    assert share.index.count == 1


def test_what_kafka_refuses_to_move_is_dead() -> None:
    bench = Bench()
    share = bench.open()
    bench.listens("d1", "far")
    bench.take(record(1, "d1", b"large"))
    refuse(bench, "too large")
    assert [write.topic for _, write in bench.commit().writes] == ["kalinka.dead"]
    assert bench.books.outcomes == {Outcome.DEAD: 1} and not share.active


def test_what_not_even_the_dead_letter_topic_takes_is_kept_there_without_its_value() -> None:
    bench = Bench()
    bench.open()
    bench.take(record(7, "d,1", b"large", headers=[("x", b"y" * 9)]))
    refuse(bench, "too large")
    ((_, write),) = bench.commit().writes
    assert (write.topic, write.key, write.value, write.stub) == ("kalinka.dead", None, None, True)
    assert [name for name, _ in write.headers] == [KALINKA_ID, KALINKA_VALUE, *TRAILER]
    assert dict(write.headers)[KALINKA_VALUE] == f"{MQTT}/0/7".encode()
    reason = (dict(write.headers)[KALINKA_REASON] or b"").decode()
    assert 'contains ","' in reason and "the value is not here but at 0.mqtt.mqtt/0/7, 5 bytes" in reason
    assert bench.books.outcomes == {Outcome.DEAD: 1}


def test_a_parked_record_that_is_dead_gets_its_tombstone_after_that() -> None:
    bench = Bench()
    key = parked_key("d1", "gone.topic,s", "i")
    bench.log["0.parked", 0] = [record(0, key, b"x", "0.parked")]
    share = bench.open(0, [(0, key, 1)])
    bench.load()
    ((_, write),) = bench.commit().writes
    assert (write.topic, write.key, write.value) == ("kalinka.dead", b"d1", b"x")
    ((_, write),) = bench.commit().writes
    assert (write.topic, write.key, write.value) == ("0.parked", key, None)
    assert bench.books.replayed == {Outcome.DEAD: 1} and share.index.count == 0 and share.replaying == 0


def test_a_parked_record_that_is_dead_tells_where_it_was_before_and_how_often_it_was_tried() -> None:
    bench = Bench()
    bench.open()
    bench.take(record(7, "d1", b"x", topic=SPARK, headers=[*HEADERS, ("kalinka.attempt", b"3")]))
    ((_, parked),) = bench.commit().writes
    key = parked_key("d1", "gone.topic,s", "i")  # as if its route had gone since then
    bench.log["0.parked", 0] = [record(0, key, b"x", "0.parked", headers=parked.headers)]
    later = Bench()
    later.log = bench.log
    later.open(0, [(0, key, 1)])
    later.load()
    ((_, write),) = later.commit().writes
    had, own = split(write.headers) or ([], {})
    assert had[: len(HEADERS)] == HEADERS and KALINKA_ORIGIN not in dict(had)
    assert (own[KALINKA_ORIGIN], own["kalinka.attempt"]) == (f"{SPARK}/0/7", "3")


def test_a_parked_record_that_moves_forgets_where_it_was() -> None:
    bench = Bench()
    bench.open()
    bench.take(record(7, "d1", b"x", headers=HEADERS))
    bench.commit()
    bench.listens("d1", "far")
    bench.load()
    ((_, write),) = bench.commit().writes
    assert (write.topic, dict(write.headers).get(KALINKA_ORIGIN)) == ("1.mqtt.mqtt", None)


def test_one_that_is_dead_without_its_value_stays_parked() -> None:
    bench = Bench()
    key = parked_key("d1", "gone.topic,s", "i")
    bench.log["0.parked", 0] = [record(0, key, b"x", "0.parked")]
    bench.open(0, [(0, key, 1)])
    bench.load()
    refuse(bench, "too large")
    assert [write.stub for _, write in bench.commit().writes] == [True]
    assert not bench.commit().writes


def test_what_is_replayed_counts_as_what_it_becomes_and_gets_a_tombstone() -> None:
    bench = Bench()
    share = bench.open()
    bench.take(record(1, "d1", b"x", topic=SPARK))
    bench.commit()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.load()
    bench.prove("b1")
    ((_, write),) = bench.commit().writes
    assert (write.topic, write.partition, write.value) == ("0.parked", 0, None)
    assert write.key == parked_key("d1", f"{SPARK},", f"{SPARK}/0/1")
    assert bench.books.outcomes == {Outcome.PARKED: 1} and bench.books.replayed == {Outcome.DELIVERED: 1}
    assert bench.books.summary()["parked"] == 1 and share.index.count == 0


@pytest.mark.parametrize("when", ["in its lane", "about to be parked", "in a batch", "refused", "parked", "delivered"])
def test_the_same_record_again_is_a_duplicate_wherever_the_first_is(when: str) -> None:
    bench = Bench()
    share = bench.open()
    bench.up("b1")
    if when in {"in its lane", "delivered"}:
        bench.listens("d1", "b1")
    bench.take(record(1, "d1", b"x", headers=HEADERS))
    batch = None
    if when == "delivered":
        bench.prove("b1")
    elif when == "in a batch":
        batch = bench.books.batch(bench.shares)
    elif when in {"refused", "parked"}:
        bench.commit(succeeds=when == "parked")
    bench.take(record(2, "d1", b"x", headers=HEADERS))
    assert bench.books.outcomes[Outcome.DUPLICATE] == 1 and bench.balanced()
    if batch is not None:
        bench.streams.done(batch, 0.0)
    bench.commit()
    assert share.index.count <= 1 and share.pending == len(bench.sent("b1"))
