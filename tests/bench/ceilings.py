"""What the two pipelines could cost at best: bare loops that do only what the guarantee itself needs.

No routes, no registry, no rebalances, no restart: a prototype of each direction in one function, at least once all the
same. `python -m tests.bench.ceilings drain|deliver …` runs one in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections import deque
from typing import Any

from confluent_kafka import Consumer, Producer

PREFETCH = 1000
"""Messages in flight from the broker, as `kalinka pub` has by default."""

TRANSACTION, IN_FLIGHT = 200, 4
"""Messages of a STOMP transaction, and transactions in flight, as `kalinka sub` has by default."""

_FROM_THE_START = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
_LENGTH = b"\ncontent-length:"


def _connect(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(b"CONNECT\naccept-version:1.2\nhost:bench\nheart-beat:0,0\n\n\x00")
    answer = sock.recv(65536)
    assert answer.startswith(b"CONNECTED"), answer
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
            sent = _Sent(_value(head, b"\nack:"))
            path = _value(head, b"\noriginal-destination:")[7:].replace(b".", b"/")
            source = path.split(b"/", 2)[1]
            id = b"dev1/" + _value(head, b"\nmessage-id:").replace(b"\\c", b":")
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


def _value(head: bytes, needle: bytes) -> bytes:
    at = head.find(needle) + len(needle)
    end = head.find(b"\n", at)
    return head[at:] if end < 0 else head[at:end]


def drain(host: str, port: int, queue: str, servers: str, topic: str, messages: int) -> tuple[float, float]:
    """Carry what waits in the queue into Kafka; seconds, and seconds of CPU, from the first message on."""
    sock = _connect(host, port)
    sock.sendall(
        b"SUBSCRIBE\nid:1\ndestination:/queue/%b\nack:client\nactivemq.prefetchSize:%d\n\n\x00"
        % (queue.encode(), PREFETCH)
    )
    sock.settimeout(0.005)
    loop = _Drain(sock, servers, topic)
    while not loop.taken:
        loop.turn()
    began, cpu = time.perf_counter(), time.process_time()
    while loop.acknowledged < messages:
        loop.turn()
    return time.perf_counter() - began, time.process_time() - cpu


def deliver(host: str, port: int, servers: str, topic: str, messages: int) -> tuple[float, float]:
    """Kafka → broker: transactions of one buffer, a receipt for each, a few in flight; then the offsets."""
    sock = _connect(host, port)
    consumer: Any = Consumer({"bootstrap.servers": servers, "group.id": f"bare-{time.time()}", **_FROM_THE_START})
    consumer.subscribe([topic])
    records = _wait_for_records(consumer)
    began, cpu = time.perf_counter(), time.process_time()
    taken = done = 0
    flying: deque[list[Any]] = deque()
    while done < messages:
        while records and len(flying) < IN_FLIGHT:
            sock.sendall(_transaction(records, taken))
            flying.append(records)
            taken += len(records)
            records = consumer.consume(min(TRANSACTION, messages - taken), 0.01) if taken < messages else []
        for _ in range(sock.recv(65536).count(b"\x00")):
            proven = flying.popleft()
            done += len(proven)
            consumer.commit(message=proven[-1], asynchronous=True)
    return time.perf_counter() - began, time.process_time() - cpu


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


LOOPS: dict[str, Any] = {"drain": drain, "deliver": deliver}

if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    seconds, cpu = LOOPS[sys.argv[1]](*arguments)
    print(json.dumps({"messages": arguments[-1], "seconds": seconds, "cpu": cpu}))
