"""Where streams go, and what the evidence of the brokers makes of them."""

from __future__ import annotations

import logging

import pytest
from downlink import MQTT, SPARK, Bench, record

from kalinka_jms.sub.outlet import LinkUp, Proofs
from kalinka_jms.sub.sends import CanaryReport, Echo, Report
from kalinka_jms.sub.share import Outcome, State


def bench_with(*brokers: str, records: int = 1, **sub: object) -> Bench:
    """A device at the brokers given (the newest last), all links up, and some records for it."""
    bench = Bench(**sub)
    bench.open()
    bench.up("b1", "b2")
    for broker in brokers:
        bench.listens("d1", broker)
    bench.take(*(record(n, "d1", b"%d" % n) for n in range(records)))
    return bench


def test_a_record_goes_to_the_newest_owner_and_is_delivered_by_the_echo() -> None:
    bench = bench_with("b1", "b2")
    assert (bench.sent("b1"), bench.sent("b2")) == ([], [b"0"])
    transaction = bench.prove("b2")
    assert transaction.sends == [("mqtt.kafka.mqtt.d1.sub", b"0")] and transaction.places == [0]
    assert bench.books.outcomes == {Outcome.DELIVERED: 1}


def test_what_nobody_received_goes_to_the_next_owner_with_all_behind_it() -> None:
    bench = bench_with("b1", "b2", records=3)
    bench.prove("b2", absent=[1])
    assert bench.books.outcomes == {Outcome.DELIVERED: 1}
    assert (bench.sent("b1"), bench.sent("b2")) == ([b"1", b"2"], [])
    bench.prove("b1", absent=[0])
    assert bench.commit().writes and bench.books.outcomes == {Outcome.DELIVERED: 1, Outcome.PARKED: 2}


def test_one_transaction_a_stream_many_streams_a_transaction() -> None:
    bench = bench_with("b1")
    bench.take(record(10, "d1", b"x", SPARK), record(11, "d1", b"1"))
    assert bench.sent("b1") == [b"0", b"x"]
    bench.prove("b1")
    assert bench.sent("b1") == [b"x", b"1"]


def test_the_bounds_of_a_transaction_and_of_those_in_flight() -> None:
    bench = Bench(transaction=2, transactions_in_flight=2)
    bench.open()
    for device in range(7):
        bench.listens(f"d{device}", "b1")
    bench.take(*(record(n, f"d{n}") for n in range(7)))
    bench.up("b1")
    assert [len(transaction.sends) for transaction in bench.outlets["b1"].written] == [2, 2]
    assert bench.dispatcher.in_flight == 2
    bench.prove("b1")
    assert len(bench.sent("b1")) == 4


def test_a_large_record_travels_alone() -> None:
    bench = Bench()
    bench.open()
    bench.listens("d1", "b1")
    bench.take(*(record(n, "d1", b"x" * 700_000) for n in range(3)))
    bench.up("b1")
    assert len(bench.sent("b1")) == 1


def test_an_unknown_owner_is_waited_for_and_then_parked() -> None:
    bench = Bench()
    bench.owners.forget_to_ask()
    bench.open()
    bench.up("b1")
    bench.take(record(1, "d1"), record(2, "d2"))
    bench.registry.listen("d1", "b1")
    assert bench.sent("b1") == []
    bench.owners.learn()
    bench.tell()
    assert len(bench.sent("b1")) == 1
    bench.wait(5)
    assert not bench.commit().writes or bench.books.outcomes[Outcome.PARKED] == 1, "d2 listens nowhere"


def test_zookeeper_away_for_longer_than_any_time_out() -> None:
    bench = Bench()
    bench.owners.forget_to_ask()
    bench.open()
    bench.up("b1")
    bench.take(record(1, "d1", b"1"))
    bench.wait(11)
    bench.commit()
    assert bench.books.outcomes == {Outcome.PARKED: 1}
    bench.take(record(2, "d1", b"2"))
    bench.commit()
    bench.wait(60)
    bench.registry.listen("d1", "b1")
    bench.owners.learn()
    bench.tell()
    bench.load()
    assert bench.sent("b1") == [b"1", b"2"]


def test_a_broker_away_is_waited_for_and_then_not() -> None:
    bench = Bench()
    bench.open()
    bench.listens("d1", "b1")
    bench.take(record(1, "d1", b"1"))
    bench.wait(9)
    assert not bench.commit().writes
    bench.up("b1")
    assert bench.sent("b1") == [b"1"]
    bench.down("b1")
    bench.wait(2)
    bench.commit()
    assert bench.books.outcomes == {Outcome.PARKED: 1}, "a lost link starts no new time"
    bench.up("b1")
    bench.load()
    assert bench.sent("b1")[-1:] == [b"1"], "the link is reason enough, without a time or an event"


def test_the_patience_of_a_route_is_its_own() -> None:
    routes = [
        {"from": "{group}.mqtt.mqtt", "to": "mqtt/{source}/mqtt/{device}/sub", "ack_timeout": 1.0},
        {"from": "{group}.sparkcluster.mqtt", "to": "sparkcluster/mqtt/{device}/sub"},
    ]
    bench = Bench(down=routes)
    bench.open()
    bench.listens("d1", "b1")
    bench.take(record(1, "d1", topic=MQTT), record(1, "d1", topic=SPARK))
    bench.wait(2)
    assert [write.message.topic() for _, write in bench.commit().writes] == [MQTT]


def test_a_lost_link_sends_again_and_a_late_echo_proves_nothing() -> None:
    bench = bench_with("b1", records=2)
    old = bench.outlets["b1"].written.pop()
    bench.down("b1", old.identity)
    bench.up("b1")
    again = bench.outlets["b1"].written[0]
    assert again.sends == old.sends and again.identity != old.identity
    bench.streams.event(Proofs("b1", old.identity, old.evidence()), bench.shares, 0.0)
    assert bench.books.outcomes == {}
    bench.prove("b1")
    assert bench.books.outcomes == {Outcome.DELIVERED: 2}


def test_a_new_link_ends_the_old_one() -> None:
    bench = bench_with("b1")
    first = bench.outlets["b1"].written.pop()
    bench.up("b1")
    bench.down("b1", first.identity)
    assert bench.sent("b1") == [b"0"] and bench.dispatcher.links["b1"]


def test_an_echo_that_does_not_come_costs_the_link_at_once() -> None:
    """Whether its end is ever told or not: what is in flight must not stand for ever."""
    bench = bench_with("b1")
    identity = bench.outlets["b1"].written.pop().identity
    bench.wait(11)
    assert bench.outlets["b1"].dropped == [identity] and not bench.dispatcher.links["b1"]
    assert bench.dispatcher.in_flight == 0
    bench.wait(0.3)
    bench.commit()
    assert bench.books.outcomes == {Outcome.PARKED: 1}


@pytest.mark.parametrize("what", [Report(1, 5), Report(9, 0), Echo(2), CanaryReport(9, 0)])
def test_evidence_that_does_not_fit_costs_the_link(what: Report | Echo | CanaryReport) -> None:
    bench = bench_with("b1")
    identity = bench.outlets["b1"].written.pop().identity
    bench.streams.event(Proofs("b1", identity, [what, Echo(1)]), bench.shares, 0.0)
    assert bench.outlets["b1"].dropped == [identity] and bench.books.outcomes == {}


def test_an_owner_that_becomes_known_does_not_touch_what_flies() -> None:
    """The answer was there before it was told: a second record has been sent by then. Taken for waiting, the stream
    would be parked behind its own back, its second record before its first."""
    bench = Bench()
    bench.owners.forget_to_ask()
    share = bench.open()
    bench.up("b1")
    bench.take(record(1, "d1", b"1"))
    bench.registry.listen("d1", "b1")
    bench.owners.learn()
    bench.take(record(2, "d1", b"2"))
    assert bench.sent("b1") == [b"1", b"2"]
    bench.registry.leave("d1", "b1")
    bench.take(record(3, "d1", b"3"))
    bench.tell()
    assert share.streams["d1", f"{MQTT},kafka"].state is State.FLYING
    bench.prove("b1", absent=[0, 1])
    assert [write.value for _, write in bench.commit().writes] == [b"1", b"2", b"3"]


def test_a_stream_that_was_parked_is_not_mistaken_for_its_successor() -> None:
    """It waited for a broker that has no room, and is still in the line there when that broker's link is lost."""
    bench = Bench(transactions_in_flight=1, ack_timeout=2.0)
    share = bench.open()
    bench.up("b1", "b2")
    bench.listens("d1", "b1")
    bench.listens("d2", "b1")
    bench.take(record(1, "d2"))
    bench.take(record(2, "d1", b"2"))
    assert len(bench.sent("b1")) == 1, "d1 waits"
    bench.wait(3)
    bench.commit()
    bench.listens("d1", "b2")
    bench.load()
    assert bench.sent("b2") == [b"2"]
    stream = share.streams["d1", f"{MQTT},kafka"]
    bench.down("b1")
    bench.take(record(3, "d1", b"3"))
    assert share.streams["d1", f"{MQTT},kafka"] is stream and bench.sent("b2") == [b"2"]
    bench.prove("b2")
    assert bench.sent("b2") == [b"3"]


def test_a_device_that_listens_to_one_source_only() -> None:
    bench = Bench()
    bench.open()
    bench.up("b1")
    bench.listens("d1", "b1", "mqtt/friend/mqtt/d1/sub")
    for offset, source in enumerate((b"friend", b"stranger", b"friend")):
        bench.take(record(offset, "d1", source, headers=[("kalinka.source", source)]))
    bench.prove("b1")
    bench.prove("b1")
    bench.commit()
    assert bench.books.outcomes == {Outcome.DELIVERED: 2, Outcome.PARKED: 1}
    bench.listens("d1", "b1", "mqtt/friend/mqtt/d1/sub", "mqtt/stranger/mqtt/d1/sub")
    bench.load()
    assert bench.sent("b1") == [b"stranger"]


def test_hidden_absence_is_told_once_and_the_registry_decides(caplog: pytest.LogCaptureFixture) -> None:
    bench = bench_with("b1")
    with caplog.at_level(logging.ERROR):
        bench.prove("b1", hidden=[0])
        bench.take(record(1, "d1", b"1"))
        bench.registry.leave("d1", "b1")
        bench.prove("b1", hidden=[0])
    assert [entry.message[:17] for entry in caplog.records] == ["absence is hidden"]
    bench.commit()
    assert bench.books.outcomes == {Outcome.DELIVERED: 1, Outcome.PARKED: 1}


def test_a_share_that_closes_sends_nothing_and_takes_no_evidence() -> None:
    bench = bench_with("b1", records=1)
    share = bench.shares[0]
    share.closing = True
    bench.take(record(1, "d1", b"1"))
    bench.prove("b1")
    assert bench.sent("b1") == [] and bench.books.outcomes == {Outcome.DELIVERED: 1}
    bench = bench_with("b1", records=1)
    share = bench.shares[0]
    bench.close(share)
    bench.prove("b1")
    assert bench.books.outcomes == {} and bench.balanced() and not bench.dispatcher.flying([share])


def test_what_waits_in_a_share_that_is_about_to_end_is_parked() -> None:
    bench = bench_with("b1", records=0)
    bench.down("b1", "b1-1")
    bench.take(record(1, "d1", b"1"))
    assert bench.books.outcomes == {} and not bench.commit().writes
    bench.dispatcher.hasten(bench.shares, bench.now)
    assert [write.topic for _, write in bench.commit().writes] == ["0.parked"]
    assert bench.books.outcomes == {Outcome.PARKED: 1} and bench.shares[0].pending == 0


def test_a_device_of_another_group_is_handed_over() -> None:
    bench = bench_with("b1", "far", records=2)
    assert [write.topic for _, write in bench.commit().writes] == ["1.mqtt.mqtt"] * 2
    assert bench.books.outcomes == {Outcome.MOVED: 2} and not bench.shares[0].streams


def test_hand_overs_end_somewhere() -> None:
    bench = bench_with("far", records=0, max_hops=2)
    bench.take(record(1, "d1", headers=[("kalinka.hops", b"2")]))
    assert [write.topic for _, write in bench.commit().writes] == ["0.parked"]


def test_an_owner_that_nobody_knows_is_passed_over() -> None:
    bench = bench_with("b1", "stranger")
    assert bench.sent("b1") == [b"0"]


def test_links_up_are_shown() -> None:
    bench = Bench()
    bench.up("b2")
    assert bench.dispatcher.links == {"b1": False, "b2": True}
    bench.streams.event(LinkUp("b1", "x"), [], 0.0)
    assert bench.dispatcher.links == {"b1": True, "b2": True}
