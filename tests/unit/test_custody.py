"""Routes that are final only by the device's own evidence: what the streams make of what brokers and devices say."""

from __future__ import annotations

import logging

import pytest
from downlink import SPARK, Bench, record

from kalinka_jms.sub import custody, port
from kalinka_jms.sub.outlet import LinkDown, Proofs
from kalinka_jms.sub.sends import Consumed, Dispatched, Echo, Expired, Word
from kalinka_jms.sub.share import Outcome

ROUTES = [
    {"from": "{group}.mqtt.mqtt", "to": "mqtt/{source}/mqtt/{device}/sub", "delivery": "device"},
    {"from": "{group}.sparkcluster.mqtt", "to": "sparkcluster/mqtt/{device}/sub"},
]
"""The second one is content with the broker."""


def bench_with(*brokers: str, records: int = 1, clean: bool = True, **sub: object) -> Bench:
    """A device at the brokers given (the newest last), all links up, and some records for it."""
    bench = Bench(down=ROUTES, **sub)
    bench.open()
    bench.up("b1", "b2")
    for broker in brokers:
        bench.listens("d1", broker, clean=clean)
    bench.take(*(record(n, "d1", b"%d" % n) for n in range(records)))
    return bench


def dispatched(bench: Bench, count: int, broker: str = "b1", device: str = "d1") -> list[Word]:
    """Sends 0 to count - 1 were written to the device's consumer."""
    return [Dispatched(index, bench.consumers(device, broker)[0]) for index in range(count)]


def acknowledged(bench: Bench, count: int, broker: str = "b1") -> list[Word]:
    """They were, and the device acknowledged them."""
    return [*dispatched(bench, count, broker), *(Consumed(index) for index in range(count))]


def assert_delivered(bench: Bench, count: int) -> None:
    assert bench.books.outcomes[Outcome.DELIVERED] == count


def test_a_clean_session_has_what_was_written_to_its_own_connection() -> None:
    bench = bench_with("b1", records=3)
    transaction = bench.prove("b1")
    assert_delivered(bench, 0)
    bench.say(transaction, *(Dispatched(index, "ID:b1-4:99:-1:1") for index in range(3)))
    assert_delivered(bench, 0)
    bench.say(transaction, *dispatched(bench, 2))
    assert_delivered(bench, 2)
    bench.say(transaction, *dispatched(bench, 3))
    assert_delivered(bench, 3)
    assert bench.dispatcher.unconfirmed == 0


def test_what_was_said_before_the_echo_counts_with_it() -> None:
    bench = bench_with("b1")
    (transaction,) = bench.outlets["b1"].written
    bench.say(transaction, *dispatched(bench, 1))
    assert_delivered(bench, 0)
    bench.prove("b1")
    assert_delivered(bench, 1)


def test_a_persistent_session_has_what_it_acknowledged() -> None:
    bench = bench_with("b1", records=2, clean=False)
    transaction = bench.prove("b1")
    bench.say(transaction, *dispatched(bench, 2))
    assert_delivered(bench, 0)
    bench.say(transaction, Consumed(0))
    assert_delivered(bench, 1)
    bench.say(transaction, Consumed(1))
    assert_delivered(bench, 2)


def test_what_others_acknowledge_was_not_written_to_the_device() -> None:
    bench = bench_with("b1", clean=False)
    transaction = bench.prove("b1")
    bench.say(transaction, Dispatched(0, "ID:b1-4:99:-1:1"), Consumed(0))
    assert_delivered(bench, 0)


def test_a_clean_device_has_not_what_a_durable_subscriber_acknowledges() -> None:
    bench = bench_with("b1")
    transaction = bench.prove("b1")
    bench.say(transaction, Dispatched(0, "ID:b1-4:99:-1:1"), Consumed(0))
    assert_delivered(bench, 0)


def test_overlapping_filters_of_one_device_make_no_difference() -> None:
    for clean in (True, False):
        bench = Bench(down=ROUTES)
        bench.open()
        bench.up("b1")
        bench.listens("d1", "b1", "mqtt/+/mqtt/d1/sub", "mqtt/kafka/mqtt/d1/#", clean=clean)
        bench.take(record(0, "d1", b"0"), record(1, "d1", b"1"))
        transaction = bench.prove("b1")
        for consumer in bench.consumers("d1"):
            bench.say(transaction, Dispatched(0, consumer), Consumed(0))
        assert_delivered(bench, 1)


def test_what_expired_was_not_delivered_whoever_acknowledges_it() -> None:
    bench = bench_with("b1", "b2", records=3, clean=False)
    transaction = bench.prove("b2")
    words = [*acknowledged(bench, 1, "b2"), Expired(1), *acknowledged(bench, 3, "b2")]
    bench.say(transaction, *words, broker="b2")
    assert_delivered(bench, 1)
    assert (bench.sent("b1"), bench.sent("b2")) == ([b"1", b"2"], []), "tried elsewhere, order kept"


def test_what_nobody_listened_to_goes_to_the_next_owner_once_the_rest_is_proven() -> None:
    bench = bench_with("b1", "b2", records=3)
    transaction = bench.prove("b2", absent=[1])
    assert bench.sent("b1") == []
    bench.say(transaction, *dispatched(bench, 1, "b2"), broker="b2")
    assert_delivered(bench, 1)
    assert bench.sent("b1") == [b"1", b"2"]


def test_a_device_that_leaves_after_three_of_five(caplog: pytest.LogCaptureFixture) -> None:
    """The other two are parked in order and come again; a session that is left behind may have them too."""
    bench = bench_with("b1", records=5, clean=False)
    transaction = bench.prove("b1")
    bench.say(transaction, *dispatched(bench, 5), *(Consumed(index) for index in range(3)))
    bench.left("d1", "b1")
    assert_delivered(bench, 3)
    bench.prove("b1")
    bench.take(record(5, "d1", b"5"))
    bench.commit()
    bench.commit()
    assert bench.books.outcomes == {Outcome.DELIVERED: 3, Outcome.PARKED: 3}
    assert bench.dispatcher.left_behind == 2
    bench.listens("d1", "b2", clean=False)
    bench.load()
    assert bench.sent("b2") == [b"3", b"4", b"5"]
    bench.say(transaction, Consumed(3), Consumed(4), Consumed(4))
    assert bench.dispatcher.late_copies == {"b1": 2}, "the session that was left behind got its copies after all"
    assert bench.balanced()


def test_a_device_that_never_acknowledges_holds_only_itself() -> None:
    bench = bench_with("b1", records=2, clean=False)
    bench.listens("d2", "b1", clean=False)
    silent = bench.prove("b1")
    for turn in range(4):
        bench.wait(3)
        bench.take(record(10 + turn, "d2"))
        transaction = bench.prove("b1")
        words = [Dispatched(0, bench.consumers("d2")[0]), Consumed(0)]
        bench.say(transaction, *words)
        assert_delivered(bench, turn + 1)
    bench.commit()
    assert bench.books.outcomes == {Outcome.DELIVERED: 4, Outcome.PARKED: 2}
    bench.wait(2)
    bench.load()
    assert bench.sent("b1") == [b"0"], "one at a time, until it acknowledges one"
    again = bench.prove("b1")
    bench.say(again, *acknowledged(bench, 1))
    assert bench.sent("b1") == [b"1"] and silent.sends == [*again.sends, ("mqtt.kafka.mqtt.d1.sub", b"1")]


def test_a_broker_that_says_nothing_is_named(caplog: pytest.LogCaptureFixture) -> None:
    bench = bench_with("b1")
    bench.prove("b1")
    with caplog.at_level(logging.ERROR):
        bench.wait(11)
    assert "advisoryForDispatched" in caplog.text


def test_slow_acknowledgements_count_as_life() -> None:
    bench = bench_with("b1", records=3)
    transaction = bench.prove("b1")
    for count in (1, 2, 3):
        bench.wait(9)
        bench.say(transaction, *dispatched(bench, count))
    assert_delivered(bench, 3)


def test_a_clean_session_that_came_anew_has_lost_what_waited() -> None:
    bench = bench_with("b1", records=2)
    old = bench.prove("b1")
    bench.say(old, *dispatched(bench, 1))
    bench.listens("d1", "b1")
    assert_delivered(bench, 1)
    bench.prove("b1")
    assert bench.sent("b1") == [b"1"], "sent again at once"
    bench.say(bench.prove("b1"), *dispatched(bench, 1))
    assert_delivered(bench, 2)


def test_a_persistent_session_that_came_anew_gets_it_again() -> None:
    bench = bench_with("b1", clean=False)
    transaction = bench.prove("b1")
    bench.say(transaction, *dispatched(bench, 1))
    bench.listens("d1", "b1", clean=False)
    assert bench.sent("b1") == []
    bench.say(transaction, *acknowledged(bench, 1))
    assert_delivered(bench, 1)


def test_a_session_that_turned_clean_has_lost_what_waited() -> None:
    bench = bench_with("b1", clean=False)
    bench.prove("b1")
    bench.listens("d1", "b1")
    bench.prove("b1")
    assert bench.sent("b1") == [b"0"]


def test_what_a_device_got_before_it_left_may_be_said_after_the_registry_knows() -> None:
    """The registry and the link have no common order: an echo shows what was said by then."""
    bench = bench_with("b1", records=2)
    transaction = bench.prove("b1")
    words = dispatched(bench, 1)
    bench.left("d1", "b1")
    bench.say(transaction, *words)
    assert_delivered(bench, 1)
    assert bench.prove("b1").sends == []
    bench.commit()
    assert bench.books.outcomes == {Outcome.DELIVERED: 1, Outcome.PARKED: 1}


def test_the_registry_learns_late_of_the_connection_that_got_it() -> None:
    bench = bench_with("b1")
    transaction = bench.prove("b1")
    bench.say(transaction, Dispatched(0, "ID:b1-4:2:-1:1"))  # as the fake registry will call it
    assert_delivered(bench, 0)
    bench.listens("d1", "b1")
    assert bench.consumers("d1")[0] == "ID:b1-4:2:-1:1"
    assert_delivered(bench, 1)


def test_a_lost_link_keeps_what_was_proven_on_it() -> None:
    bench = bench_with("b1", records=3)
    transaction = bench.prove("b1")
    bench.say(transaction, *dispatched(bench, 1), Dispatched(2, bench.consumers("d1")[0]))
    bench.down("b1", transaction.identity)
    assert_delivered(bench, 1)
    bench.up("b1")
    assert bench.sent("b1") == [b"1", b"2"]
    bench.say(transaction, *dispatched(bench, 3))
    assert_delivered(bench, 1)


def test_evidence_before_the_echo_counts_when_the_link_is_lost_before_the_echo() -> None:
    bench = bench_with("b1", records=2)
    transaction = bench.outlets["b1"].written.pop()
    bench.say(transaction, *dispatched(bench, 1))
    bench.down("b1", transaction.identity)
    assert_delivered(bench, 1)
    bench.up("b1")
    assert bench.sent("b1") == [b"1"]


def test_a_broker_that_numbers_otherwise_is_not_believed() -> None:
    bench = bench_with("b1")
    transaction = bench.outlets["b1"].written.pop()
    proofs = Proofs("b1", transaction.identity, [*dispatched(bench, 1), Echo(transaction.number, 7)])
    bench.streams.event(proofs, bench.shares, bench.now)
    assert bench.outlets["b1"].dropped == [transaction.identity]
    assert "calls message 3 of this link 7" in bench.outlets["b1"].reasons[0]


def test_each_kind_of_route_is_final_by_its_own_evidence() -> None:
    bench = bench_with("b1")
    bench.take(record(5, "d1", b"x", SPARK))
    first, second = bench.prove("b1"), bench.prove("b1")
    assert [payload for _, payload in first.sends + second.sends] == [b"0", b"x"]
    assert_delivered(bench, 1)
    bench.say(first, *dispatched(bench, 1))
    assert_delivered(bench, 2)


def test_the_numbers_of_a_link_count_everything_that_is_sent_on_it() -> None:
    """The other route's sends, the canaries and the echoes too."""
    bench = bench_with("b1", records=0)
    for turn in range(5):
        bench.take(record(turn, "d1", b"x", SPARK), record(turn, "d1", b"%d" % turn))
        transaction = bench.prove("b1")
        assert (transaction.first, transaction.sends[1][1]) == (5 * turn + 1, b"%d" % turn)
        bench.say(transaction, Dispatched(1, bench.consumers("d1")[0]))
        assert_delivered(bench, 2 * (turn + 1))


def test_one_device_has_so_many_in_flight_and_a_link_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "AT_ONCE", 2)
    monkeypatch.setattr(port, "UNCONFIRMED", 3)
    bench = Bench(down=ROUTES, transaction=2)
    bench.open()
    for device in ("d1", "d2", "d3"):
        bench.listens(device, "b1")
    for offset, device in enumerate(("d1", "d1", "d1", "d2", "d2", "d3")):
        bench.take(record(offset, device, device.encode() + b"%d" % offset))
    bench.take(record(0, "d3", b"x", SPARK))
    bench.up("b1")
    first = bench.prove("b1")
    assert [payload for _, payload in first.sends] == [b"d10", b"d11"], "the third waits for them"
    assert bench.sent("b1") == [b"d23", b"d24", b"x"], "no room for the last one; the other route's needs none"
    bench.prove("b1")
    bench.say(first, *dispatched(bench, 2))
    assert bench.sent("b1") == [b"x", b"d35", b"d12"]


def test_a_share_that_ends_waits_for_nothing_any_more() -> None:
    bench = bench_with("b1")
    (share,) = bench.shares
    transaction = bench.prove("b1")
    assert bench.dispatcher.flying([share])
    bench.close(share)
    assert not bench.dispatcher.flying([share]) and bench.dispatcher.unconfirmed == 0
    bench.say(transaction, *dispatched(bench, 1))
    assert_delivered(bench, 0)
    assert bench.balanced()


def test_what_is_not_confirmed_is_parked_before_a_partition_is_given_away() -> None:
    bench = bench_with("b1", records=2)
    transaction = bench.prove("b1")
    bench.say(transaction, *dispatched(bench, 1))
    bench.dispatcher.hasten(bench.shares, bench.now)
    bench.commit()
    assert bench.books.outcomes == {Outcome.DELIVERED: 1, Outcome.PARKED: 1}


def test_what_a_device_has_did_not_end_the_link() -> None:
    """The broker ends link after link, each time with one record in flight that the device has by then."""
    bench = bench_with("b1", records=8, transaction=1)
    for count in range(8):
        transaction = bench.outlets["b1"].written.pop()
        assert [payload for _, payload in transaction.sends] == [b"%d" % count]
        bench.say(transaction, *dispatched(bench, 1))
        bench.streams.event(LinkDown("b1", transaction.identity, "broke", by_broker=True), bench.shares, bench.now)
        bench.up("b1")
        while bench.outlets["b1"].written and not bench.outlets["b1"].written[0].sends:
            bench.prove("b1")  # somebody is suspected: the link is tried
    assert_delivered(bench, 8)
    assert Outcome.DEAD not in bench.books.outcomes
