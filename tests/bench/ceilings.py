"""What the two pipelines could cost at best: bare loops that do only what the guarantee itself needs.

No routes, no registry, no rebalances, no restart: a prototype of each direction, at least once all the same.
`python -m tests.bench.ceilings drain|deliver|read …` runs one in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.bench.meter import rss_of

PREFETCH = 1000
"""Messages in flight from the broker, as `kalinka pub` has by default."""

TRANSACTION, IN_FLIGHT = 200, 4
"""Messages of a STOMP transaction, and transactions in flight, as `kalinka sub` has by default."""

_FROM_THE_START = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
_LENGTH = b"\ncontent-length:"


def connect(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(b"CONNECT\naccept-version:1.2\nhost:bench\nheart-beat:0,0\n\n\x00")
    answer = sock.recv(65536)
    assert answer.startswith(b"CONNECTED"), answer
    return sock


def subscribed(host: str, port: int, queue: str) -> socket.socket:
    sock = connect(host, port)
    sock.sendall(
        b"SUBSCRIBE\nid:1\ndestination:/queue/%b\nack:client\nactivemq.prefetchSize:%d\n\n\x00"
        % (queue.encode(), PREFETCH)
    )
    return sock


class _Sent:
    """One message until Kafka has confirmed it."""

    __slots__ = ("ack", "confirmed")

    def __init__(self, ack: bytes) -> None:
        self.ack = ack
        self.confirmed = False

    def __call__(self, error: Any, _: Any) -> None:
        assert error is None, error
        self.confirmed = True


class _Drain:
    """Broker → Kafka: bytes in, records out, ACK of the contiguous prefix that Kafka has confirmed."""

    def __init__(self, sock: socket.socket, servers: str, topic: str) -> None:
        self._sock = sock
        self._topic = topic
        self._kafka: Any = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1})
        self._order: deque[_Sent] = deque()
        self._rest = b""
        self.taken = self.acknowledged = 0

    def turn(self) -> None:
        with contextlib.suppress(TimeoutError):
            self._carry(self._rest + self._sock.recv(65536))
        self._kafka.poll(0)
        self._settle()

    def _carry(self, data: bytes) -> None:
        at, order, produce, topic = 0, self._order, self._kafka.produce, self._topic
        while (stop := data.find(b"\n\n", at)) >= 0:
            mark = data.find(_LENGTH, at, stop) + 16
            start = stop + 2
            end = start + int(data[mark : data.find(b"\n", mark)])
            if end >= len(data):
                break
            head = data[at:stop]
            sent = _Sent(value(head, b"\nack:"))
            path = value(head, b"\noriginal-destination:")[7:].replace(b".", b"/")
            source = path.split(b"/", 2)[1]
            id = b"dev1/" + value(head, b"\nmessage-id:").replace(b"\\c", b":")
            headers = [("kalinka.id", id), ("kalinka.source", source), ("mqtt.topic", path)]
            produce(topic, data[start:end], source, on_delivery=sent, headers=headers)
            order.append(sent)
            self.taken += 1
            at = end + 2 if data[end + 1 : end + 2] == b"\n" else end + 1
        self._rest = data[at:]

    def _settle(self) -> None:
        order, last = self._order, None
        while order and order[0].confirmed:
            last = order.popleft()
            self.acknowledged += 1
        if last is not None:
            self._sock.sendall(b"ACK\nid:%b\n\n\x00" % last.ack)


def value(head: bytes, needle: bytes) -> bytes:
    at = head.find(needle) + len(needle)
    end = head.find(b"\n", at)
    return head[at:] if end < 0 else head[at:end]


def drain(host: str, port: int, queue: str, servers: str, topic: str, messages: int) -> tuple[float, float]:
    """Carry what waits in the queue into Kafka; seconds, and seconds of CPU, from the first message on."""
    sock = subscribed(host, port, queue)
    sock.settimeout(0.005)
    loop = _Drain(sock, servers, topic)
    while not loop.taken:
        loop.turn()
    began, cpu = time.perf_counter(), time.process_time()
    while loop.acknowledged < messages:
        loop.turn()
    return time.perf_counter() - began, time.process_time() - cpu


def read(host: str, port: int, queue: str, messages: int) -> tuple[float, float]:
    """Read what waits in the queue and acknowledge it, nothing else: what the reading side costs."""
    sock = subscribed(host, port, queue)
    taken, rest, began, cpu = 0, b"", 0.0, 0.0
    while taken < messages:
        data = rest + sock.recv(65536)
        if not taken:
            began, cpu = time.perf_counter(), time.process_time()
        at, last = 0, b""
        for head, end in messages_in(data):
            last, at, taken = head, end, taken + 1
        rest = data[at:]
        if last:
            sock.sendall(b"ACK\nid:%b\n\n\x00" % value(last, b"\nack:"))
    return time.perf_counter() - began, time.process_time() - cpu


def messages_in(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The head of each whole message, and where it ends."""
    at = 0
    while (stop := data.find(b"\n\n", at)) >= 0:
        mark = data.find(_LENGTH, at, stop) + 16
        end = stop + 2 + int(data[mark : data.find(b"\n", mark)])
        if end >= len(data):
            return
        at, start = (end + 2 if data[end + 1 : end + 2] == b"\n" else end + 1), at
        yield data[start:stop], at


class _Sender:
    """One broker: what waits for it, and what it has not answered yet."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = connect(host, port)
        self.waiting: list[tuple[Any, _Taken]] = []
        self.flying: deque[list[tuple[Any, _Taken]]] = deque()
        self._number = 0

    def send(self) -> None:
        """One transaction, if there is something to send and room for it."""
        if self.waiting and len(self.flying) < IN_FLIGHT:
            batch, self.waiting = self.waiting[:TRANSACTION], self.waiting[TRANSACTION:]
            self._number += 1
            self.socket.sendall(_transaction([record for record, _ in batch], self._number))
            self.flying.append(batch)

    def answered(self) -> int:
        """Take the receipts that came; how many records they prove."""
        proven = 0
        for _ in range(self.socket.recv(65536).count(b"\x00")):
            batch = self.flying.popleft()
            proven += len(batch)
            for _, taken in batch:
                taken.left -= 1
        return proven


class _Taken:
    """Records taken from Kafka at once; its offsets may be committed when none of them, nor of older ones, is left."""

    __slots__ = ("last", "left")

    def __init__(self, records: list[Any]) -> None:
        self.left = len(records)
        self.last = {(one.topic(), one.partition()): one.offset() + 1 for one in records}


def deliver(hosts: list[str], port: int, servers: str, topic: str, messages: int) -> tuple[float, float]:
    """Kafka → brokers: device `<letter><n>` is on host n, counted round. Transactions of one buffer, a receipt for
    each, a few in flight; then the offsets."""
    senders = [_Sender(host, port) for host in hosts]
    consumer: Any = Consumer({"bootstrap.servers": servers, "group.id": f"bare-{time.time()}", **_FROM_THE_START})
    consumer.subscribe([topic])
    records = _wait_for_records(consumer)
    began, cpu = time.perf_counter(), time.process_time()
    loop = _Deliver(senders, consumer, messages)
    loop.take(records)
    while loop.done < messages:
        loop.turn()
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    consumer.close()
    return seconds, used


class _Deliver:
    """Records to where their devices are, receipts back, offsets in order."""

    def __init__(self, senders: list[_Sender], consumer: Any, messages: int) -> None:
        self._senders = senders
        self._consumer = consumer
        self._messages = messages
        self._order: deque[_Taken] = deque()
        self._selector = selectors.DefaultSelector()
        self._taken = self.done = 0
        for sender in senders:
            self._selector.register(sender.socket, selectors.EVENT_READ, sender)

    def take(self, records: list[Any]) -> None:
        if not records:
            return
        taken, senders = _Taken(records), self._senders
        self._order.append(taken)
        self._taken += len(records)
        for record in records:
            senders[int(record.key()[1:]) % len(senders)].waiting.append((record, taken))

    def turn(self) -> None:
        full = all(len(sender.waiting) >= TRANSACTION for sender in self._senders)
        wanted = 0 if full else min(TRANSACTION * len(self._senders), self._messages - self._taken)
        if wanted:
            self.take(self._consumer.consume(wanted, 0.0 if any(one.flying for one in self._senders) else 0.01))
        for sender in self._senders:
            sender.send()
        ready = self._selector.select(0.001 if wanted else 0.1)
        self.done += sum(key.data.answered() for key, _ in ready)
        self._commit()

    def _commit(self) -> None:
        offsets: dict[tuple[str, int], int] = {}
        while self._order and not self._order[0].left:
            offsets.update(self._order.popleft().last)
        if offsets:
            places = [TopicPartition(*place, offset) for place, offset in offsets.items()]
            self._consumer.commit(offsets=places, asynchronous=True)


def _wait_for_records(consumer: Any) -> list[Any]:
    deadline = time.monotonic() + 30
    while not (records := consumer.consume(TRANSACTION, 0.5)):
        assert time.monotonic() < deadline, "no record came"
    return list(records)


def _transaction(records: list[Any], number: int) -> bytes:
    name = b"transaction:%d\n" % number
    parts = [b"BEGIN\n%b\n\x00" % name]
    for record in records:
        payload = record.value()
        head = b"SEND\ndestination:/topic/sparkcluster.mqtt.%b.sub\nActiveMQ.MQTT.QoS:1\n" % record.key()
        parts.append(b"%b%bcontent-length:%d\n\n%b\x00" % (head, name, len(payload), payload))
    parts.append(b"COMMIT\n%breceipt:%d\n\n\x00" % (name, number))
    return b"".join(parts)


LOOPS: dict[str, Any] = {"drain": drain, "deliver": deliver, "read": read}

if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    seconds, cpu = LOOPS[sys.argv[1]](*arguments)
    print(json.dumps({"messages": arguments[-1], "seconds": seconds, "cpu": cpu, "rss": rss_of(os.getpid())}))
