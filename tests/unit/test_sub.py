"""The whole downlink with its threads, upon brokers, a Kafka and a registry in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError
from downlink import MQTT, SPARK, settings

from kalinka_jms.sub import backlog, commits, membership, notices, outlet
from kalinka_jms.sub import sub as module
from kalinka_jms.sub.share import Outcome
from kalinka_jms.sub.sub import Sub
from kalinka_jms.testing import FakeBrokers, FakeDevice, FakeKafka
from kalinka_jms.testing.registry import FakeRegistry

PARKED, GROUP = "0.parked", "kalinka-sub"


class World:
    """Two brokers, a Kafka with two partitions a topic, a registry; and instances of sub."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.brokers = FakeBrokers("b1", "b2", "far")
        self.kafka = FakeKafka(partitions=2)
        self.registry = FakeRegistry()
        for topic in (MQTT, SPARK, PARKED, "kalinka.dead"):
            self.kafka.create(topic)
        monkeypatch.setattr(outlet, "Link", self.brokers)
        for place in (module, backlog, notices):
            monkeypatch.setattr(place, "consumer", self.kafka.consumer)
        monkeypatch.setattr(backlog, "AdminClient", self.kafka.admin)
        monkeypatch.setattr(commits, "producer", self.kafka.producer)
        monkeypatch.setattr(commits, "PAUSE", 0.01)
        monkeypatch.setattr(module, "Owners", lambda client, root, tell: self.registry.owners(tell))
        self.subs: list[Sub] = []
        self.sent = 0

    def sub(self, **more: Any) -> Sub:
        """One more instance, started."""
        self.subs.append(Sub(settings(**more), None))  # type: ignore[arg-type]
        self.subs[-1].start()
        return self.subs[-1]

    def device(self, name: str, broker: str) -> FakeDevice:
        """A device that listens, and is registered."""
        device = self.brokers[broker].device(name)
        self.registry.listen(name, broker)
        return device

    def send(
        self, device: str, count: int = 1, topic: str = MQTT, partition: int = 0, first: int | None = None
    ) -> None:
        """Records whose values count up."""
        for _ in range(count):
            self.kafka.send(topic, b"%d" % self.sent, device.encode(), partition=partition)
            self.sent += 1

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait for something that comes with a change in Kafka, or a quarter of a second after one."""
        return any(self.kafka.wait(condition, 0.05) for _ in range(400))

    def committed(self, topic: str = MQTT, partition: int = 0) -> int | None:
        return self.kafka.committed(GROUP, topic, partition)

    def consumers(self) -> list[Any]:
        return [consumer for consumer in self.kafka.consumers if consumer.topics]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.kafka.release()
    for sub in world.subs:
        sub.stop()
    for sub in world.subs:
        sub.join(20)
        assert not sub._thread.is_alive()


def values(device: FakeDevice) -> list[int]:
    return [int(message.payload) for message in device.received]


def balanced(sub: Sub) -> bool:
    books, shares = sub.books, sub._partitions.shares
    return books.taken == sum(books.outcomes.values()) + sum(share.pending for share in shares) + books.given_back


def test_records_reach_their_devices_and_are_committed(world: World) -> None:
    devices = [world.device("d1", "b1"), world.device("d2", "b2")]
    sub = world.sub()
    assert sub.ready.wait(10) and sub.links == {"b1": True, "b2": True}
    for _ in range(20):
        world.send("d1")
        world.send("d2", partition=1)
        world.send("d2", topic=SPARK)
    assert world.wait(lambda: world.committed() == 20 and world.committed(MQTT, 1) == 20)
    assert world.wait(lambda: world.committed(SPARK) == 20)
    assert [len(device.received) for device in devices] == [20, 40] and values(devices[0]) == sorted(values(devices[0]))
    assert sub.books.outcomes == {Outcome.DELIVERED: 60} and balanced(sub)
    sub.stop()
    sub.join(10)
    assert sub.failure is None


def test_what_is_parked_comes_back_through_any_instance(world: World) -> None:
    first = world.sub()
    world.send("d1", 5)
    assert world.wait(lambda: len(world.kafka.records(PARKED)) == 5)
    first.stop()
    first.join(10)
    second = world.sub()
    device = world.device("d1", "b2")
    assert world.wait(lambda: values(device) == [0, 1, 2, 3, 4])
    world.send("d1", 3)
    assert world.wait(lambda: values(device) == list(range(8)))
    assert world.wait(lambda: sum(record.value() is None for record in world.kafka.records(PARKED)) == 5)
    assert second.books.replayed == {Outcome.DELIVERED: 5}


def test_a_clean_stop_sends_nothing_twice(world: World) -> None:
    device = world.device("d1", "b1")
    for _ in range(3):
        sub = world.sub()
        assert sub.ready.wait(10)
        world.send("d1", 50)
        assert world.wait(lambda: len(device.received) > 0)
        sub.stop()
        sub.join(10)
        assert sub.failure is None
    world.sub()
    assert world.wait(lambda: world.committed() == 150)
    assert values(device) == list(range(150))


def test_a_share_that_comes_back_is_a_new_one(world: World) -> None:
    """The group goes on without an instance and takes it back: the same partitions, nothing of before."""
    sub = world.sub()
    world.brokers["b1"].freeze()
    device = world.device("d1", "b1")
    world.send("d1", 10)
    assert world.wait(lambda: sub.books.taken == 10)
    world.consumers()[0].expel()
    assert world.wait(lambda: sub.books.given_back == 10)
    world.brokers["b1"].thaw()
    assert world.wait(lambda: world.committed() == 10)
    assert list(dict.fromkeys(values(device))) == list(range(10)) and balanced(sub)


def test_an_instance_that_was_replaced_parks_nothing_even_if_it_has_not_heard_of_it(world: World) -> None:
    """What it is asked for in the name of "nobody" Kafka would do."""
    sub = world.sub()
    assert sub.ready.wait(10)
    (consumer,) = world.consumers()
    before = sub._partitions.metadata
    consumer.consumer_group_metadata = lambda: pytest.fail("asked too late")
    world.send("d1")
    assert world.wait(lambda: len(world.kafka.records(PARKED)) == 1)
    assert sub._partitions.metadata is before


def test_a_full_window_holds_kafka_back_and_lets_it_rebalance(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_WHEN_FULL", 0.05)
    monkeypatch.setattr(module, "BATCH", 5)
    for broker in ("b1", "b2"):
        world.brokers[broker].freeze()
    devices = [world.device("d1", "b1"), world.device("d2", "b2")]
    first = world.sub(window_records=10)
    world.send("d1", 100)
    world.send("d2", 100, partition=1)
    assert world.wait(lambda: first.books.taken >= 10)
    assert world.wait(lambda: first._partitions._held) and first.books.taken < 20
    monkeypatch.setattr(module, "DRAIN_TIMEOUT", 0.1)
    second = world.sub(window_records=10)
    assert world.wait(lambda: all(len(consumer.assignment()) == 2 for consumer in world.consumers()))
    for broker in ("b1", "b2"):
        world.brokers[broker].thaw()
    assert world.wait(lambda: world.committed() == 100 and world.committed(MQTT, 1) == 100)
    for device, start in zip(devices, (0, 100), strict=True):
        assert list(dict.fromkeys(values(device))) == list(range(start, start + 100))
    assert balanced(first) and balanced(second)
    assert first.books.given_back > 0, "what could not be finished was not pretended to be"


def test_bytes_fill_the_window_too(world: World) -> None:
    world.brokers["b1"].freeze()
    world.device("d1", "b1")
    sub = world.sub(window_bytes=10)
    world.send("d1")
    assert world.wait(lambda: sub._full())
    world.brokers["b1"].thaw()


def test_a_partition_whose_topics_do_not_come_together_waits(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """As while versions with other routes are rolled out."""
    other = world.kafka.consumer(None, GROUP)
    other.subscribe([SPARK])
    other.poll(0)
    device = world.device("d1", "b1")
    sub = world.sub()

    def polled(condition: Callable[[], bool]) -> bool:
        return any(other.poll(0.02) is None and condition() for _ in range(500))

    assert polled(lambda: len(sub._partitions.shares) == 1 and len(other.assignment()) == 1)
    assert "a partition waits until its topics come together" in [entry.message for entry in caplog.records]
    (share,) = sub._partitions.shares
    for partition in (0, 1):
        world.send("d1", partition=partition)
    assert polled(lambda: len(device.received) == 1)
    assert sub.books.taken == 1 and world.committed(MQTT, 1 - share.partition) is None
    other.close()
    assert world.wait(lambda: len(device.received) == 2)


def test_topics_of_unequal_partitions_are_refused(world: World) -> None:
    world.kafka.create("1.mqtt.mqtt", 3)
    world.kafka.create("1.sparkcluster.mqtt", 2)
    world.kafka.create("1.parked", 2)
    sub = world.sub(groups=["1"])
    sub.join(10)
    assert "same number of partitions" in str(sub.failure)


def test_kafka_away_does_not_keep_devices_waiting_nor_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_TIMEOUT", 0.2)
    device = world.device("d1", "b1")
    sub = world.sub()
    assert sub.ready.wait(10)
    world.kafka.hold()
    world.send("away")
    world.send("d1")
    assert world.wait(lambda: len(device.received) == 1)
    sub.stop()
    sub.join(15)
    assert not sub._thread.is_alive() and sub.failure is None and balanced(sub)
    assert sub.books.given_back >= 1 and world.kafka.records(PARKED) == []


@pytest.mark.parametrize("place", ["commits", "backlog", "outlet"])
def test_a_thread_that_fails_ends_the_instance(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """It would go on without committing, reading or sending, and say nothing."""

    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("broken")

    if place == "commits":
        monkeypatch.setattr(commits.Commits, "_commit", broken)
    elif place == "backlog":
        monkeypatch.setattr(backlog.Backlog, "_begin", broken)
    else:
        monkeypatch.setattr(outlet.Outlet, "_connect", broken)
    sub = world.sub()
    world.send("d1")
    sub.join(20)
    assert not sub._thread.is_alive() and isinstance(sub.failure, RuntimeError)


def test_a_process_that_stood_still_does_not_believe_its_links(world: World) -> None:
    sub = world.sub()
    assert sub.ready.wait(10)
    before = len(world.brokers.links)
    sub._turned_at -= module.STALL + 1
    assert world.wait(lambda: len(world.brokers.links) == before + 2 and all(sub.links.values()))


def test_a_bad_record_stops_nothing(world: World) -> None:
    device = world.device("d1", "b1")
    world.kafka.send(MQTT, b"no key", partition=0)
    world.kafka.send(SPARK, b"", b"away", partition=0, headers=[("kalinka.source", b"a/b")])
    world.send("d1")
    sub = world.sub()
    assert world.wait(lambda: sub.books.outcomes == {Outcome.DEAD: 1, Outcome.PARKED: 1, Outcome.DELIVERED: 1})
    assert values(device) == [0] and [record.value() for record in world.kafka.records("kalinka.dead")] == [b"no key"]


def test_a_record_too_large_to_be_parked_stops_nothing(world: World) -> None:
    sub = world.sub()
    assert sub.ready.wait(10)
    world.kafka.max_bytes = 60
    world.kafka.send(MQTT, b"x" * 30, b"away", partition=0)
    world.send("away")
    assert world.wait(lambda: sub.books.outcomes == {Outcome.DEAD: 1, Outcome.PARKED: 1})
    assert [record.value() for record in world.kafka.records("kalinka.dead")] == [b"x" * 30]
    assert world.committed() == 2


def test_an_error_of_kafka_s_is_told_and_no_more(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def error(self) -> KafkaError:
            return KafkaError(KafkaError._ALL_BROKERS_DOWN)

    sub = world.sub()
    assert sub.ready.wait(10)
    sub._take([Broken()], 0.0)
    assert "Kafka says" in [entry.message for entry in caplog.records] and sub.books.taken == 0


def test_partitions_of_which_nobody_knows_where_they_begin_are_asked_for_again(world: World) -> None:
    """librdkafka tells it once and leaves it at that, as it did when the coordinator had just moved."""

    class Unknown:
        def error(self) -> KafkaError:
            text = 'Failed to fetch committed offsets for 0 partition(s) in group "g": Broker: Not coordinator'
            return KafkaError(KafkaError.NOT_COORDINATOR, text)

    device = world.device("d1", "b1")
    sub = world.sub()
    world.send("d1", 3)
    assert world.wait(lambda: world.committed() == 3)
    [reader] = world.consumers()
    consume, assign, told = reader.consume, reader.assign, [Unknown()]
    assigned: list[list[Any]] = []

    def stuck(count: int = 1, timeout: float = -1) -> list[Any]:
        return consume(count, timeout) if assigned else [told.pop()] if told else []

    reader.consume, reader.assign = stuck, lambda partitions: (assigned.append(partitions), assign(partitions))
    world.send("d1", 3)
    world.send("d1", 2, partition=1)
    assert world.wait(lambda: len(values(device)) == 8 and world.committed() == 6)
    assert sorted(values(device)) == list(range(8)), "what was read is not read again"
    assert len(assigned) == 1 and world.wait(lambda: world.committed(MQTT, 1) == 2) and balanced(sub)


def test_a_rebalance_sends_nothing_twice_and_parks_nothing_twice(world: World) -> None:
    device = world.device("d1", "b1")
    first = world.sub()
    assert first.ready.wait(10)
    for _ in range(5):
        world.send("d1", 40)
        world.send("away", 10, partition=1)
        second = world.sub()
        assert second.ready.wait(10)
        second.stop()
        second.join(10)
    assert world.wait(lambda: world.committed() == 200 and world.committed(MQTT, 1) == 50)
    assert values(device) == sorted(values(device)) and len(device.received) == 200
    assert len(world.kafka.records(PARKED)) == 50


def test_an_index_that_is_full_holds_kafka_back_until_something_leaves_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was taken before is parked still; what is not taken stays in Kafka, whoever it is for."""
    monkeypatch.setattr(module, "BATCH", 5)
    present = world.device("d1", "b1")
    sub = world.sub(index_bytes=1)
    world.send("away", 3)
    assert world.wait(lambda: sub._streams._crowded) and len(world.kafka.records(PARKED)) >= 1
    assert "the index of parked records is full" in caplog.text
    world.send("d1", 3)
    away = world.device("away", "b2")
    assert world.wait(lambda: values(present) == [3, 4, 5] and values(away) == [0, 1, 2])
    assert not sub._streams._crowded and balanced(sub)


def test_an_index_is_kept_and_read_on_from_where_the_partition_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second instance comes and goes; the first one keeps one partition, and gets the other back."""
    starts: list[tuple[int, int]] = []
    begin = backlog.Backlog._begin

    def watched(self: Any, share: Any, start: int) -> None:
        starts.append((share.partition, start))
        begin(self, share, start)

    monkeypatch.setattr(backlog.Backlog, "_begin", watched)
    first = world.sub()
    assert first.ready.wait(10)
    for partition in (0, 1):
        world.send(f"away{partition}", 5, partition=partition)
    assert world.wait(lambda: len(world.kafka.records(PARKED)) == 10)
    assert world.wait(lambda: world.committed() == 5 and world.committed(MQTT, 1) == 5)
    starts.clear()
    second = world.sub()
    assert second.ready.wait(10)
    assert world.wait(lambda: len(starts) == 2)
    begun = dict(starts)
    assert sorted(begun.values())[0] == 0 and max(begun.values()) > 0, "the newcomer reads all of its own"
    second.stop()
    second.join(10)
    devices = [world.device(f"away{partition}", "b1") for partition in (0, 1)]
    assert world.wait(lambda: [len(device.received) for device in devices] == [5, 5])
    assert [values(device) for device in devices] == [list(range(5)), list(range(5, 10))]
    assert world.wait(lambda: first.books.replayed == {Outcome.DELIVERED: 10})


def test_what_was_delivered_is_known_when_the_partition_comes_back(world: World) -> None:
    """The group goes on without an instance before it has committed: the same records come to it once more."""
    sub = world.sub()
    assert sub.ready.wait(10)
    device = world.device("d1", "b1")
    world.kafka.hold()  # nothing is written; but the commit of offsets alone is refused as below
    (consumer,) = world.consumers()
    commit, consumer.commit = consumer.commit, lambda *_, **__: None
    world.send("d1", 10)
    assert world.wait(lambda: len(device.received) == 10 and sub.books.outcomes == {Outcome.DELIVERED: 10})
    consumer.commit = commit
    consumer.expel()
    world.kafka.release()
    assert world.wait(lambda: world.committed() == 10)
    assert values(device) == list(range(10)), "nothing twice"
    assert sub.books.outcomes[Outcome.DUPLICATE] == 10 and balanced(sub)


def test_a_client_that_finds_no_way_back_into_the_group_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As librdkafka's did not after Kafka had stood still: the group was empty, and nobody looked for it any more."""
    for name in ("QUIET", "ASK"):
        monkeypatch.setattr(membership, name, 0.1)
    monkeypatch.setattr(module, "CONSUMER", {"max.poll.interval.ms": 100})
    monkeypatch.setattr(module, "REJOIN", 0.0)
    device = world.device("d1", "b1")
    sub = world.sub()
    world.send("d1", 3)
    assert world.wait(lambda: world.committed() == 3)
    [stuck] = world.consumers()
    lost, consume = sub._partitions._lost, stuck.consume

    def deaf(count: int = 1, timeout: float = -1) -> list[Any]:
        if not sub._partitions.waiting:
            lost(stuck, stuck.assignment())
        return []

    stuck.consume = deaf
    world.send("d1", 3)
    assert world.wait(lambda: values(device) == list(range(6)) and world.committed() == 6)
    assert "no way back" in caplog.text and sub._consumer is not stuck and world.wait(lambda: stuck.closed)
    stuck.consume = consume
    assert sub.ready.wait(10) and balanced(sub)
