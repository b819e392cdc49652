"""What the benchmark puts in the place of brokers and devices behaves as they do, as far as it goes."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Message

from kalinka_jms.config import Broker
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import ECHO_TOPIC, CanaryReport, Echo, Reader, Send, encode, send_prefix
from tests.bench import ceilings
from tests.bench.connection import Connection
from tests.bench.stand import QUEUE
from tests.bench.stubs import AT_ONCE, WINDOW, Load, Stubs
from tests.mqtt_packets import cut, packet, publish


class Taken:
    """A link to a stub, and what came of it."""

    def __init__(self, address: str) -> None:
        self.frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.link = Link(Broker(name="b", stomp=f"stomp://{address}"), self._sink)
        self.link.connect()

    def _sink(self, batch: Any) -> None:
        for frame in batch if isinstance(batch, list) else ():
            self.frames.put(frame)

    def take(self, count: int) -> list[Frame]:
        return [self.frames.get(timeout=10) for _ in range(count)]


@pytest.fixture
def reader() -> Iterator[tuple[Stubs, Taken]]:
    with Stubs([Load(messages=WINDOW + 2 * AT_ONCE, sources=3)]) as stubs:
        taken = Taken(stubs.addresses[0])
        taken.link.subscribe(f"/queue/{QUEUE}", "7", ack="client")
        yield stubs, taken
        taken.link.disconnect()


def test_a_stub_sends_a_window_and_no_more_until_it_is_acknowledged(reader: tuple[Stubs, Taken]) -> None:
    stubs, taken = reader
    stubs.open()
    frames = taken.take(WINDOW)
    assert len(frames[0].body) == 256
    assert [frame.header("original-destination") for frame in frames[:4]] == [
        f"/topic/mqtt.d{i}.sparkcluster.pub" for i in (0, 1, 2, 0)
    ]
    with pytest.raises(queue.Empty):
        taken.frames.get(timeout=0.3)
    taken.link.write(b"ACK\nid:%b\n\n\x00" % (frames[499].raw("ack") or b""))
    more = taken.take(2 * AT_ONCE)
    assert stubs.count == 500
    taken.link.write(b"ACK\nid:%b\n\n\x00" % (more[-1].raw("ack") or b""))
    assert wait_until(lambda: stubs.count == WINDOW + 2 * AT_ONCE, 10)


def test_a_stub_proves_transactions_as_a_broker_would() -> None:
    with Stubs([Load()]) as stubs:
        taken = Taken(stubs.addresses[0])
        link = taken.link
        link.subscribe(ECHO_TOPIC + link.identity, "1")
        sends = [Send(send_prefix("sparkcluster.mqtt.d1.sub", 1), b"x" * 100) for _ in range(5)]
        for number in (1, 2):
            link.write(encode(link.identity, number, sends, [(0, send_prefix("sparkcluster.mqtt.nobody.sub", 1))]))
        evidence = Reader(link.identity, link.session).evidence(taken.take(4))
        assert evidence == [CanaryReport(1, 0), Echo(1, 7), CanaryReport(2, 0), Echo(2, 14)]
        assert [one.message for one in evidence if isinstance(one, Echo)] == [7, 14]
        assert stubs.count == 10
        link.disconnect()


def test_the_bare_reader_takes_every_message_once() -> None:
    with Stubs([Load(messages=5_000, sources=7)]) as stubs:
        stubs.open()
        host, _, port = stubs.addresses[0].partition(":")
        seconds, cpu = ceilings.read(host, int(port), QUEUE, 5_000)
        assert seconds > 0 and cpu > 0
        assert wait_until(lambda: stubs.count == 5_000, 10)


class FakeConsumer:
    """Has these records, and keeps what is committed."""

    def __init__(self, records: list[Any]) -> None:
        self.records = records
        self.committed: dict[int, int] = {}

    def consume(self, count: int, timeout: float) -> list[Any]:
        taken, self.records = self.records[:count], self.records[count:]
        return taken

    def commit(self, offsets: list[Any], asynchronous: bool) -> None:
        for place in offsets:
            assert place.offset > self.committed.get(place.partition, 0)
            self.committed[place.partition] = place.offset


def test_the_bare_sender_sends_every_record_and_commits_what_is_proven() -> None:
    records = [
        Message(topic="t", partition=n % 2, offset=n // 2, key=f"d{n % 11}".encode(), value=b"x") for n in range(2_000)
    ]
    consumer = FakeConsumer(records)
    with Stubs([Load()] * 3) as stubs:
        places = [address.split(":") for address in stubs.addresses]
        senders = [ceilings._Sender(host, int(port)) for host, port in places]
        loop = ceilings._Deliver(senders, consumer, 2_000)
        while loop.done < 2_000:
            loop.turn()
        assert stubs.count == loop.done == 2_000
    assert consumer.committed == {0: 1000, 1: 1000}


def test_packets_are_cut_wherever_they_were_split() -> None:
    whole = publish("a/b", 1, b"x" * 300) + packet(0xD0, b"")
    assert [(at, end) for at, _, end in cut(whole)] == [(0, len(whole) - 2), (len(whole) - 2, len(whole))]
    for length in range(len(whole) - 2):
        assert list(cut(whole[:length])) == []


def test_a_device_acknowledges_what_it_gets_and_finds_the_payload() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    made: list[Connection] = []
    host, port = server.getsockname()
    thread = threading.Thread(target=lambda: made.append(Connection(host, port, "d1", ["a/b"])))
    thread.start()
    sock, _ = server.accept()
    thread.join()
    (device,) = made
    with server, sock, device.socket:
        whole = packet(0x90, b"\x00\x01\x01") + publish("a/b", 258, b"payload")
        sock.sendall(whole[:-3])
        assert device.read()[1:] == ([], True)
        sock.sendall(whole[-3:])
        data, ((start, end),), subscribed = device.read()
        assert (data[start:end], subscribed) == (b"payload", False)
        assert sock.recv(1000).endswith(b"\x40\x02\x01\x02")
