"""Records that make a broker end the link: they are dead, and no other record is lost, stopped or late."""

from __future__ import annotations

from collections import defaultdict

import pytest
from downlink import MQTT, Bench, record
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.dead import KALINKA_REASON, split
from kalinka_jms.sub.outlet import LinkDown, LinkUp
from kalinka_jms.sub.parked import parked_key
from kalinka_jms.sub.share import Outcome

ERROR = "b1: the broker reported an error: User kalinka is not authorized to write to: topic://x"


class Scene:
    """A bench with one broker that ends the link whenever it gets one of the poisoned payloads."""

    def __init__(self, **sub: int) -> None:
        self.bench = Bench(**sub)
        self.poison: set[bytes] = set()
        self.received: defaultdict[str, list[bytes]] = defaultdict(list)
        self.breaks = 0
        self.bench.open()
        self.bench.up("b1")

    def run(self) -> None:
        """Until nothing is in flight any more."""
        written = self.bench.outlets["b1"].written
        for _ in range(5000):
            if not written:
                return
            if self.poison.intersection(payload for _, payload in written[0].sends):
                self.end(ERROR)
            else:
                for destination, payload in self.bench.prove("b1").sends:
                    self.received[destination].append(payload)
        raise AssertionError("it never ends")

    def end(self, reason: str, *, by_broker: bool = True) -> None:
        """The link breaks, whatever is in flight, and comes back."""
        bench = self.bench
        written = bench.outlets["b1"].written
        identity, sends = written[0].identity, [send for transaction in written for send in transaction.sends]
        written.clear()
        buried = len(bench.shares[0].writes)
        self.breaks += 1
        bench.streams.event(LinkDown("b1", identity, reason, by_broker), bench.shares, bench.now)
        bench.streams.event(LinkUp("b1", f"again-{self.breaks}"), bench.shares, bench.now)
        bench.settle()
        if by_broker and sends and len(bench.shares[0].writes) == buried:  # else it was the culprit: all is as ever
            assert not written[0].sends, "a new connection has to carry a transaction without records first"

    def dead(self) -> list[bytes]:
        return [write.value or b"" for _, write in self.bench.commit().writes if write.outcome is Outcome.DEAD]


@given(
    st.lists(st.sampled_from(["d1", "d2", "d3", "d4", "d5"]), max_size=60),
    st.sets(st.integers(0, 59), max_size=5),
    st.sampled_from([1, 3, 20, 200]),
    st.integers(1, 4),
)
def test_exactly_those_are_dead_and_all_others_arrive_in_order(
    devices: list[str], poison: set[int], transaction: int, in_flight: int
) -> None:
    scene = Scene(transaction=transaction, transactions_in_flight=in_flight)
    payloads = [b"%d" % number for number in range(len(devices))]
    scene.poison = {payload for number, payload in enumerate(payloads) if number in poison}
    for device in set(devices):
        scene.bench.listens(device, "b1")
    scene.bench.take(*(record(n, d, b"%d" % n, headers=[("kalinka.source", b"s")]) for n, d in enumerate(devices)))
    scene.run()
    assert sorted(scene.dead()) == sorted(scene.poison)
    for device in set(devices):
        own = [payload for payload, other in zip(payloads, devices, strict=True) if other == device]
        assert scene.received[f"mqtt.s.mqtt.{device}.sub"] == [one for one in own if one not in scene.poison]
    assert scene.bench.books.outcomes[Outcome.DELIVERED] == len(payloads) - len(scene.poison)
    assert scene.bench.balanced() and not scene.bench.shares[0].active


def test_the_letter_says_what_the_broker_said() -> None:
    scene = Scene()
    scene.poison = {b"bad"}
    scene.bench.listens("d1", "b1")
    scene.bench.take(record(7, "d1", b"bad", headers=[("x", None)]), record(8, "d1", b"good"))
    scene.run()
    ((_, write),) = scene.bench.commit().writes
    had, own = split(write.headers) or ([], {})
    assert (write.key, write.value, had[0]) == (b"d1", b"bad", ("x", None))
    assert own[KALINKA_REASON] == f"the broker ends the link by it: {ERROR}"
    assert own["kalinka.origin"] == f"{MQTT}/0/7"
    assert scene.received["mqtt.kafka.mqtt.d1.sub"] == [b"good"]


@pytest.mark.parametrize("by_broker", [True, False], ids=["closed by the broker", "dropped by us"])
def test_a_link_that_breaks_often_condemns_nobody_when_records_pass_between(by_broker: bool) -> None:
    """A broker that is killed again and again, at whatever moment but the same three in a row."""
    scene = Scene(transaction=10)
    scene.bench.listens("d1", "b1")
    for number in range(0, 200, 2):
        scene.bench.take(record(number, "d1", b"x"), record(number + 1, "d1", b"x"))
        scene.end("b1: the broker closed the connection", by_broker=by_broker)
        scene.end("b1: the broker closed the connection", by_broker=by_broker)
        scene.run()
    assert scene.bench.books.outcomes == {Outcome.DELIVERED: 200}


def test_links_that_we_dropped_ourselves_condemn_nobody() -> None:
    scene = Scene()
    scene.bench.listens("d1", "b1")
    scene.bench.take(record(0, "d1", b"x"))
    for _ in range(20):
        scene.end("b1: an echo did not come back in time", by_broker=False)
        if not scene.bench.outlets["b1"].written[0].sends:
            scene.bench.prove("b1")
    scene.run()
    assert scene.bench.books.outcomes == {Outcome.DELIVERED: 1}


def test_a_broker_that_stands_not_even_a_transaction_without_records_condemns_nobody() -> None:
    scene = Scene()
    scene.bench.listens("d1", "b1")
    scene.bench.take(record(0, "d1", b"x"))
    for _ in range(20):
        scene.end("b1: the broker closed the connection")
    assert not scene.bench.outlets["b1"].written[0].sends, "first it has to carry nothing"
    scene.run()
    assert scene.bench.books.outcomes == {Outcome.DELIVERED: 1}


def test_a_parked_record_that_breaks_links_is_dead_and_its_tombstone_follows() -> None:
    scene = Scene()
    scene.poison = {b"bad"}
    bench = scene.bench
    bench.take(record(1, "d1", b"bad"), record(2, "d1", b"good"))
    bench.commit()
    bench.listens("d1", "b1")
    bench.load()
    scene.run()
    dead = [write for _, write in bench.commit().writes if write.outcome is Outcome.DEAD]
    assert [(write.key, write.value) for write in dead] == [(b"d1", b"bad")]
    assert (split(dead[0].headers) or ([], {}))[1]["kalinka.origin"] == f"{MQTT}/0/1"
    tombstones = {write.key for batch in (bench.commit(), bench.commit()) for _, write in batch.writes}
    assert parked_key("d1", f"{MQTT},kafka", f"{MQTT}/0/1") in tombstones
    assert scene.received["mqtt.kafka.mqtt.d1.sub"] == [b"good"]
    assert bench.shares[0].index.count == 0 and bench.shares[0].replaying == 0


def test_neighbours_go_on_while_one_is_looked_for() -> None:
    """Between two breaks there is a transaction of those who are under no suspicion."""
    scene = Scene(transaction=200)
    scene.poison = {b"bad"}
    bench = scene.bench
    for device in ("d1", "other"):
        bench.listens(device, "b1")
    bench.take(*(record(number, "d1", b"bad" if number == 77 else b"x") for number in range(100)))
    offset = 100
    for _ in range(100):
        if scene.breaks == 8:
            break
        bench.take(record(offset, "other", b"news"))
        offset += 1
        written = bench.outlets["b1"].written
        if any(payload == b"bad" for _, payload in written[0].sends):
            scene.end(ERROR)
        else:
            for destination, payload in bench.prove("b1").sends:
                scene.received[destination].append(payload)
    assert scene.breaks == 8 and len(scene.received["mqtt.kafka.mqtt.other.sub"]) > 8
