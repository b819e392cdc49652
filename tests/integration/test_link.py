"""The link on a real broker: what the echo proves, what an ACK covers, and how a frozen broker is noticed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.lab.lab import Lab
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import ECHO_TOPIC, Echo, Evidence, Reader, Report, Send, send_prefix
from kalinka_jms.sub.sends import encode as transaction

pytestmark = pytest.mark.lab

PATIENCE = 60.0
"""Seconds after which a test gives up."""

NO_CONSUMER = "/topic/ActiveMQ.Advisory.NoConsumer.Topic."

EXCLUSIVE = {"activemq.exclusive": "true"}
"""Without it a newcomer may get what is left in the queue before what the lost link had not acknowledged (tried)."""


class Inbox:
    """A sink that keeps what it hears, and a link for it that is connected."""

    def __init__(self, lab: Lab, heartbeat: float = 4.0) -> None:
        self.frames: list[Frame] = []
        self.lost: list[LinkLost] = []
        self._news = threading.Condition()
        service = lab.layout.service("dev1.activemq")
        address = f"stomp://{service.address}:{service.ports['stomp']}"
        self.link = Link(Broker(name="dev1", stomp=address, heartbeat=heartbeat), self._hear)
        self.link.connect()

    def _hear(self, batch: list[Frame] | LinkLost) -> None:
        with self._news:
            if isinstance(batch, LinkLost):
                self.lost.append(batch)
            else:
                self.frames += batch
            self._news.notify_all()

    def wait(self, enough: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(enough, PATIENCE), (len(self.frames), self.lost)

    def wait_for_frames(self, number: int) -> list[str]:
        """Wait for so many frames; return the bodies of all that came."""
        self.wait(lambda: len(self.frames) >= number)
        return [frame.body.decode() for frame in self.frames]

    def wait_for_end(self) -> str:
        self.wait(lambda: bool(self.lost))
        (lost,) = self.lost
        return str(lost)

    def listen(self, *topics: str) -> None:
        """Subscribe to topics and to the link's own echo; return when the broker has done so."""
        self.link.subscribe(",".join([*topics, ECHO_TOPIC + self.link.identity]), "1")
        self.link.write(transaction(self.link.identity, 0, [], []))
        self.wait(lambda: Echo(0) in self.evidence())

    def evidence(self) -> list[Evidence]:
        return Reader(self.link.identity, self.link.session).evidence(self.frames)


def fill(lab: Lab, queue: str, number: int) -> None:
    """Send messages 0, 1, 2, … to a queue, and leave in order."""
    filler = Inbox(lab)
    filler.link.write(b"".join(encode("SEND", [("destination", queue)], str(body).encode()) for body in range(number)))
    filler.link.disconnect()
    assert filler.wait_for_end() == "dev1: disconnected"


def numbers(start: int, end: int) -> list[str]:
    return [str(number) for number in range(start, end)]


@pytest.fixture
def queue() -> str:
    return f"/queue/test.link.{uuid.uuid4().hex}"


def test_the_echo_comes_after_every_report(lab: Lab) -> None:
    present, sender = Inbox(lab), Inbox(lab)
    present.listen("/topic/mqtt.*.mqtt.here.sub")
    sender.listen(NO_CONSUMER + "mqtt.*.mqtt.*.sub")
    expected: list[Evidence] = [Echo(0)]
    for number in range(1, 16):
        devices = [f"away-{number}-{index}" if index % 3 == 0 else "here" for index in range(200)]
        sends = [Send(send_prefix(f"mqtt.srv.mqtt.{device}.sub", 1), device.encode()) for device in devices]
        sender.link.write(transaction(sender.link.identity, number, sends, []))
        expected += [*(Report(number, index) for index in range(0, 200, 3)), Echo(number)]
    sender.wait(lambda: Echo(15) in sender.evidence())
    assert sender.evidence() == expected
    received = present.wait_for_frames(1 + 15 * 133)
    assert received[1:] == ["here"] * 15 * 133
    for inbox in (present, sender):
        inbox.link.disconnect()
        assert inbox.wait_for_end() == "dev1: disconnected"


def test_an_ack_covers_all_before_it_and_opens_the_window_again(lab: Lab, queue: str) -> None:
    fill(lab, queue, 200)  # more would come page by page, at each ACK
    first = Inbox(lab)
    first.link.subscribe(queue, "1", ack="client", headers={"activemq.prefetchSize": "100"} | EXCLUSIVE)
    assert first.wait_for_frames(100) == numbers(0, 100)
    first.link.write(b"ACK\nid:%b\n\n\0" % (first.frames[59].raw("ack") or b""))
    assert first.wait_for_frames(160) == numbers(0, 160)
    first.link.drop("the process died")
    second = Inbox(lab)
    second.link.subscribe(queue, "1", ack="client", headers={"activemq.prefetchSize": "1000"} | EXCLUSIVE)
    assert second.wait_for_frames(140) == numbers(60, 200)
    assert [frame.header("redelivered") for frame in second.frames] == ["true"] * 100 + [None] * 40
    second.link.write(b"ACK\nid:%b\n\n\0" % (second.frames[-1].raw("ack") or b""))
    second.link.disconnect()


def test_what_was_written_before_disconnect_is_there(lab: Lab, queue: str) -> None:
    fill(lab, queue, 5000)
    reader = Inbox(lab)
    reader.link.subscribe(queue, "1")
    assert reader.wait_for_frames(5000) == numbers(0, 5000)
    reader.link.disconnect()


def test_any_bytes_and_any_header(lab: Lab, queue: str) -> None:
    body = bytes(range(256)) * 4096
    headers = [("note", "a:b\\c\nd\re \u00fc\U0001f600"), ("odd:name", " blank "), ("empty", "")]
    inbox = Inbox(lab)
    inbox.link.subscribe(queue, "1")
    for payload in (body, b"", b"\0"):
        inbox.link.write(encode("SEND", [("destination", queue), *headers], payload))
    inbox.wait(lambda: len(inbox.frames) == 3)
    assert [frame.body for frame in inbox.frames] == [body, b"", b"\0"]
    for frame in inbox.frames:
        assert [(name, frame.header(name)) for name, _ in headers] == headers
    inbox.link.disconnect()


def test_a_device_with_the_longest_topic_stops_nothing(lab: Lab) -> None:
    broker = lab.layout.service("dev1.activemq")
    inbox = Inbox(lab)
    inbox.link.subscribe("/queue/kalinka.mqtt.pub", "1")
    device = Client(CallbackAPIVersion.VERSION2, "longest")
    device.connect(broker.address, broker.ports["mqtt"])
    device.loop_start()
    topics = [f"mqtt/{':' * 65_000}/mqtt/dev/pub", "mqtt/next/mqtt/dev/pub"]
    for topic in topics:
        device.publish(topic, b"payload", qos=1).wait_for_publish(PATIENCE)
    inbox.wait_for_frames(2)
    came = [frame.header("original-destination") for frame in inbox.frames]
    assert came == ["/topic/" + topic.replace("/", ".") for topic in topics]
    device.disconnect()
    device.loop_stop()
    inbox.link.disconnect()


def test_an_error_of_the_broker_ends_the_link(lab: Lab) -> None:
    inbox = Inbox(lab)
    inbox.link.write(b"ACK\nid:never heard of\n\n\0")
    assert inbox.wait_for_end().startswith("dev1: the broker reported an error: Unexpected ACK")
    with pytest.raises(LinkLost):
        inbox.link.write(b"ACK\nid:never heard of\n\n\0")


def test_a_frozen_broker_is_noticed(breakable: Lab) -> None:
    idle, writing = Inbox(breakable, heartbeat=1.0), Inbox(breakable, heartbeat=1.0)
    breakable.pause(["dev1.activemq"])
    with pytest.raises(LinkLost, match="no heart-beat from the broker"):
        writing.link.write(encode("SEND", [("destination", "/topic/test.link")], bytes(50_000_000)))
    for inbox in (idle, writing):
        assert inbox.wait_for_end() == "dev1: no heart-beat from the broker"
    breakable.resume(["dev1.activemq"])
    Inbox(breakable).link.disconnect()


def test_a_killed_broker_is_noticed(breakable: Lab) -> None:
    inbox = Inbox(breakable)
    breakable.kill(["dev1.activemq"])
    assert inbox.wait_for_end().startswith("dev1: the ")
    with pytest.raises(LinkLost, match="Connection refused"):
        Inbox(breakable)
