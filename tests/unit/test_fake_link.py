"""The fake broker and its links do what the real ones were seen to do."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial

import pytest

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost, LinkRefused
from kalinka_jms.registry.advisories import Begun, Ended, parse
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.testing import FakeBrokers, FakeLink

NO_CONSUMER = "/topic/ActiveMQ.Advisory.NoConsumer.Topic."
CONSUMER = "/topic/ActiveMQ.Advisory.Consumer.Topic.mqtt.*.mqtt.*.sub"
DEVICES = "mqtt.*.mqtt.*.sub"
QUEUE = {"activemq.exclusive": "true", "activemq.prefetchSize": "3"}


class Sink:
    """Collects what a link's reading thread brings."""

    def __init__(self) -> None:
        self._frames: queue.SimpleQueue[Frame | LinkLost] = queue.SimpleQueue()

    def __call__(self, batch: list[Frame] | LinkLost) -> None:
        for item in batch if isinstance(batch, list) else [batch]:
            self._frames.put(item)

    def frame(self) -> Frame:
        item = self._frames.get(timeout=10)
        assert isinstance(item, Frame), item
        return item

    def lost(self) -> str:
        while not isinstance(item := self._frames.get(timeout=10), LinkLost):
            pass
        return str(item)

    @property
    def empty(self) -> bool:
        return self._frames.empty()


@pytest.fixture
def brokers() -> FakeBrokers:
    return FakeBrokers("dev1")


@pytest.fixture
def connect(brokers: FakeBrokers) -> Callable[[], tuple[FakeLink, Sink]]:
    def connected() -> tuple[FakeLink, Sink]:
        sink = Sink()
        link = brokers(Broker(name="dev1", stomp="stomp://127.0.0.1:61613"), sink)
        link.connect()
        return link, sink

    return connected


Connect = Callable[[], tuple[FakeLink, Sink]]


def send(destination: str, tag: str, body: bytes = b"", transaction: str | None = None) -> bytes:
    headers = [("destination", destination), ("kn", tag), ("ActiveMQ.MQTT.QoS", "1")]
    return encode("SEND", headers + ([("transaction", transaction)] if transaction else []), body)


def batch(link: FakeLink, *devices: str, number: str = "1") -> bytes:
    """A transaction as `sub` writes it: a send to each device, and the echo."""
    sends = [send(f"/topic/mqtt.srv.mqtt.{device}.sub", device, b"x\x00y", number) for device in devices]
    echo = send(f"/topic/kalinka.echo.{link.identity}", "echo", transaction=number)
    edges = [encode(command, [("transaction", number)]) for command in ("BEGIN", "COMMIT")]
    return b"".join([edges[0], *sends, echo, edges[1]])


def listen(link: FakeLink) -> None:
    link.subscribe(f"{NO_CONSUMER}{DEVICES},/topic/kalinka.echo.{link.identity}", "1")


def test_reports_come_before_the_echo_and_bodies_arrive_unchanged(brokers: FakeBrokers, connect: Connect) -> None:
    device = brokers["dev1"].device("here")
    link, sink = connect()
    listen(link)
    link.write(batch(link, "away1", "here", "away2"))
    assert [sink.frame().header("kn") for _ in range(3)] == ["away1", "away2", "echo"]
    assert [(message.topic, message.payload) for message in device.received] == [("mqtt/srv/mqtt/here/sub", b"x\x00y")]
    assert device.received[0].headers["ActiveMQ.MQTT.QoS"] == "1"


def test_nothing_happens_before_commit(brokers: FakeBrokers, connect: Connect) -> None:
    device = brokers["dev1"].device("here")
    link, _ = connect()
    link.write(batch(link, "here").rpartition(b"COMMIT")[0])
    link.drop("the process died")
    assert device.received == [] and brokers["dev1"].sent == []


def test_reports_of_one_link_reach_the_others(connect: Connect) -> None:
    (one, _), (other, sink) = connect(), connect()
    listen(other)
    one.write(batch(one, "away"))
    frame = sink.frame()
    assert frame.header("destination") == f"{NO_CONSUMER}mqtt.srv.mqtt.away.sub"
    assert frame.header("subscription") == "1"
    assert sink.empty, "but not its echo"


def test_a_client_on_everything_hides_absence(brokers: FakeBrokers, connect: Connect) -> None:
    brokers["dev1"].device("spy", "#")
    link, sink = connect()
    listen(link)
    link.write(batch(link, "away"))
    assert sink.frame().header("kn") == "echo"


def test_a_persistent_session_counts_while_it_is_away(brokers: FakeBrokers, connect: Connect) -> None:
    device = brokers["dev1"].device("here", clean=False)
    device.disconnect()
    link, sink = connect()
    listen(link)
    link.write(batch(link, "here"))
    assert sink.frame().header("kn") == "echo"
    assert device.received == []
    device.connect()
    assert len(device.received) == 1


def test_a_torn_transaction(brokers: FakeBrokers, connect: Connect) -> None:
    devices = [brokers["dev1"].device(name) for name in ("a", "b")]
    link, sink = connect()
    listen(link)
    brokers["dev1"].tear_after = 1
    link.write(batch(link, "a", "b"))
    assert "the broker closed the connection" in sink.lost()
    assert [len(device.received) for device in devices] == [1, 0]
    with pytest.raises(LinkLost):
        link.write(b"")


def test_a_frozen_broker_does_it_later_even_for_a_link_that_left(brokers: FakeBrokers, connect: Connect) -> None:
    device = brokers["dev1"].device("here")
    link, sink = connect()
    listen(link)
    brokers["dev1"].freeze()
    link.write(batch(link, "here"))
    link.drop("no echo")
    assert device.received == [] and "no echo" in sink.lost()
    brokers["dev1"].thaw()
    assert len(device.received) == 1
    assert sink.empty, "nothing comes after LinkLost"


def test_presence_is_replayed_and_then_live(brokers: FakeBrokers, connect: Connect) -> None:
    broker = brokers["dev1"]
    broker.device("old", "mqtt/+/mqtt/old/sub", clean=False)
    link, sink = connect()
    link.subscribe(f"{CONSUMER},/topic/kalinka.echo.{link.identity}", "1")
    link.write(send(f"/topic/kalinka.echo.{link.identity}", "end of replay"))
    begun = parse(sink.frame().body)
    assert isinstance(begun, Begun) and begun.filter.topic == "mqtt.*.mqtt.old.sub" and begun.filter.qos == 1
    assert sink.frame().header("kn") == "end of replay"
    new = broker.device("new", "mqtt/+/mqtt/new/#")
    begun = parse(sink.frame().body)
    assert isinstance(begun, Begun) and begun.filter.topic == "mqtt.*.mqtt.new.>"
    new.disconnect()
    assert parse(sink.frame().body) == Ended(begun.filter.consumer)


def acked(sink: Sink, count: int) -> list[tuple[bytes, str]]:
    frames = [sink.frame() for _ in range(count)]
    return [(frame.body, frame.header("ack") or "") for frame in frames]


def ack(id: str) -> bytes:
    return encode("ACK", [("id", id)])


def test_one_exclusive_consumer_is_active_and_acks_are_cumulative(brokers: FakeBrokers, connect: Connect) -> None:
    broker = brokers["dev1"]
    device = broker.device("dev")
    (one, sink), (other, standby) = connect(), connect()
    for link in (one, other):
        link.subscribe("/queue/kalinka.mqtt.pub", "1", ack="client", headers=QUEUE)
    for n in range(5):
        device.publish("mqtt/dev/mqtt/srv/pub", b"%d" % n, qos=2, retained=n == 0)
    got = acked(sink, 3)
    assert [body for body, _ in got] == [b"0", b"1", b"2"] and sink.empty, "the prefetch is 3"
    one.write(ack(got[1][1]))
    assert [body for body, _ in acked(sink, 2)] == [b"3", b"4"]
    assert len(broker.queues["kalinka.mqtt.pub"]) == 3
    one.disconnect()
    again = [standby.frame() for _ in range(3)]
    assert [(frame.body, frame.header("redelivered")) for frame in again] == [
        (b"2", "true"),
        (b"3", "true"),
        (b"4", "true"),
    ]


def test_a_message_says_where_it_came_from(brokers: FakeBrokers, connect: Connect) -> None:
    device = brokers["dev1"].device("dev")
    id = device.publish("mqtt/dev/sparkcluster/pub", b"", qos=0, retained=True)
    link, sink = connect()
    link.subscribe("/queue/kalinka.sparkcluster.pub", "7", ack="client")
    frame = sink.frame()
    headers = {
        name: frame.header(name) for name in ("original-destination", "message-id", "subscription", "persistent")
    }
    assert headers == {
        "original-destination": "/topic/mqtt.dev.sparkcluster.pub",
        "message-id": id,
        "subscription": "7",
        "persistent": None,
    }
    assert (frame.header("ActiveMQ.MQTT.QoS"), frame.header("ActiveMQ.Retain")) == ("0", "true")


def test_an_ack_of_another_connection_is_an_error(brokers: FakeBrokers, connect: Connect) -> None:
    brokers["dev1"].device("dev").publish("mqtt/dev/mqtt/srv/pub", b"")
    (one, sink), (other, lost) = connect(), connect()
    one.subscribe("/queue/kalinka.mqtt.pub", "1", ack="client", headers=QUEUE)
    other.write(ack(acked(sink, 1)[0][1]))
    assert "Unexpected ACK" in lost.lost()


def test_a_crash_keeps_what_is_persistent(brokers: FakeBrokers, connect: Connect) -> None:
    broker = brokers["dev1"]
    device = broker.device("dev")
    link, sink = connect()
    link.subscribe("/queue/kalinka.mqtt.pub", "1", ack="client", headers=QUEUE)
    for qos in (0, 1):
        device.publish("mqtt/dev/mqtt/srv/pub", b"%d" % qos, qos=qos)
    broker.crash()
    sink.lost()
    with pytest.raises(LinkLost):
        connect()
    broker.restart()
    link, sink = connect()
    link.subscribe("/queue/kalinka.mqtt.pub", "1", ack="client", headers=QUEUE)
    assert sink.frame().body == b"1"
    assert not broker.devices and not device.connected


def test_a_refusal(brokers: FakeBrokers, connect: Connect) -> None:
    brokers["dev1"].refusal = "User name or password is invalid"
    with pytest.raises(LinkRefused, match="password is invalid"):
        connect()


def test_an_exception_of_the_sink_ends_the_link(brokers: FakeBrokers) -> None:
    heard: queue.SimpleQueue[LinkLost] = queue.SimpleQueue()

    def sink(batch: list[Frame] | LinkLost) -> None:
        if isinstance(batch, list):
            raise RuntimeError("a bug")
        heard.put(batch)

    link = brokers(Broker(name="dev1", stomp="stomp://127.0.0.1:61613"), sink)
    link.connect()
    listen(link)
    link.write(batch(link, "away"))
    lost = heard.get(timeout=10)
    assert "a bug" in str(lost) and isinstance(lost.__cause__, RuntimeError)


def test_waiting_for_the_broker(brokers: FakeBrokers, connect: Connect) -> None:
    broker = brokers["dev1"]
    device = broker.device("here")
    link, _ = connect()
    link.write(batch(link, "here"))
    assert broker.wait(lambda: len(device.received) == 1)
    assert not broker.wait(partial(bool, False), timeout=0)
