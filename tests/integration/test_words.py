"""What a real broker says of single messages: the facts that delivery = "device" rests on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from mqtt_session import Session

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.lab.demo import brokers
from kalinka_jms.lab.device import MqttBroker
from kalinka_jms.lab.lab import Lab
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import (
    ECHO_TOPIC,
    WORDS,
    Consumed,
    Dispatched,
    Echo,
    Evidence,
    Expired,
    Reader,
    Send,
    Word,
    encode,
    send_prefix,
)

pytestmark = pytest.mark.lab


class Listener:
    """A link that hears what the broker says of what it sends; message n is its n-th SEND."""

    def __init__(self, lab: Lab) -> None:
        service = lab.layout.service("dev1.activemq")
        self._news = threading.Condition()
        self._frames: list[Frame] = []
        self._sent = 0
        self._transactions = 0
        self.link = Link(Broker(name="dev1", stomp=f"stomp://{service.address}:{service.ports['stomp']}"), self._hear)
        self.link.connect()
        topics = [f"/topic/ActiveMQ.Advisory.{word}.Topic.sparkcluster.mqtt.*.sub" for word in WORDS]
        composite = ",".join([*topics, ECHO_TOPIC + self.link.identity])
        self.link.subscribe(composite, "1", headers={"transformation": "jms-advisory-json"})

    def _hear(self, batch: list[Frame] | LinkLost) -> None:
        with self._news:
            self._frames += [] if isinstance(batch, LinkLost) else batch
            self._news.notify_all()

    @property
    def heard(self) -> list[Evidence]:
        return Reader(self.link.identity, self.link.session).evidence(self._frames)

    def send(self, device: str, *payloads: bytes, headers: bytes = b"") -> int:
        """Send in one transaction; the number of its first message."""
        prefix = send_prefix(f"sparkcluster.mqtt.{device}.sub", 1) + headers
        self._transactions += 1
        sends = [Send(prefix, payload) for payload in payloads]
        self.link.write(encode(self.link.identity, self._transactions, sends, []))
        self._sent += len(payloads) + 1
        self.wait(Echo(self._transactions))
        echo = next(e for e in self.heard if e == Echo(self._transactions))
        assert isinstance(echo, Echo) and echo.message == self._sent, "the broker counts as we do"
        return self._sent - len(payloads)

    def wait(self, *wanted: Evidence) -> None:
        with self._news:
            assert self._news.wait_for(lambda: all(evidence in self.heard for evidence in wanted), 60), self.heard

    def words(self, message: int) -> Sequence[Word]:
        """What was said of it by now."""
        words = [evidence for evidence in self.heard if isinstance(evidence, Word)]
        return [word for word in words if word.message == message]

    def dispatches(self, message: int) -> list[str]:
        return [word.consumer for word in self.words(message) if isinstance(word, Dispatched)]


@pytest.fixture
def listener(lab: Lab) -> Iterator[Listener]:
    listener = Listener(lab)
    yield listener
    listener.link.disconnect()


@pytest.fixture
def broker(lab: Lab) -> MqttBroker:
    return brokers(lab.layout)[0]


def test_a_persistent_session_is_consumed_from_when_it_acknowledges(listener: Listener, broker: MqttBroker) -> None:
    with Session("words-1", broker) as device:
        first = listener.send("words-1", b"a", b"b")
        device.wait_for(b"a", b"b")
        listener.send("words-none")  # an echo: what was to be said is
        assert Consumed(first) not in listener.heard
        device.acknowledge(b"b")
        listener.wait(Consumed(first + 1))
        device.acknowledge(b"a")
        listener.wait(Consumed(first))
        assert len(set(listener.dispatches(first))) == 1


def test_a_clean_session_says_nothing_by_its_acknowledgement(listener: Listener, broker: MqttBroker) -> None:
    with Session("words-2", broker, clean=True, willing=True) as device:
        first = listener.send("words-2", b"a")
        device.wait_for(b"a")
    for _ in range(20):
        listener.send("words-none")
    assert listener.dispatches(first) and Consumed(first) not in listener.heard


def test_every_subscriber_is_dispatched_to_and_every_durable_one_consumes(
    listener: Listener, broker: MqttBroker
) -> None:
    """Overlapping filters of one device, and another client's durable subscription."""
    filters = ("sparkcluster/mqtt/words-3/sub", "sparkcluster/mqtt/words-3/#")
    with (
        Session("words-3", broker, *filters, willing=True) as device,
        Session("words-other", broker, "sparkcluster/#", willing=True) as other,
    ):
        first = listener.send("words-3", b"a")
        device.wait_for(b"a", b"a")
        other.wait_for(b"a")
        listener.wait(Consumed(first))
        with listener._news:
            assert listener._news.wait_for(lambda: len(listener.words(first)) == 6, 30), listener.words(first)
        connections = [consumer.rsplit(":", 2)[0] for consumer in listener.dispatches(first)]
        assert sorted(map(connections.count, set(connections))) == [1, 2]
        assert listener.words(first).count(Consumed(first)) == 3


def test_what_expires_for_a_persistent_session_is_said_to_be_consumed_after_that(
    listener: Listener, broker: MqttBroker
) -> None:
    with Session("words-4", broker):
        pass
    soon = int(time.time() * 1000) + 1500
    first = listener.send("words-4", b"a", headers=b"expires:%d\n" % soon)
    while time.time() * 1000 <= soon + 100:
        listener.send("words-none")
    with Session("words-4", broker) as device:
        listener.wait(Expired(first), Consumed(first))
        assert device.payloads == []
    assert list(listener.words(first)) == [Expired(first), Consumed(first)]


def test_a_persistent_session_that_returns_is_dispatched_to_again(listener: Listener, broker: MqttBroker) -> None:
    with Session("words-5", broker) as device:
        first = listener.send("words-5", b"a")
        device.wait_for(b"a")
    with Session("words-5", broker) as device:
        device.wait_for(b"a")
        device.acknowledge(b"a")
        listener.wait(Consumed(first))
    assert len(set(listener.dispatches(first))) == 2
