"""What the brokers and Kafka take alone: the same way with nothing between them that decides or promises anything.

Two loops in one process: each message of a queue becomes a record at once, each record a message at once.
`python -m tests.bench.relay ARGUMENTS` prints a line when it is ready, and goes on until it is killed.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from typing import Any

from confluent_kafka import Consumer, Producer

from tests.bench.ceilings import connect, messages_in, subscribed, value


def up(host: str, port: int, queue: str, servers: str, topic: str) -> None:
    """Broker → Kafka."""
    sock = subscribed(host, port, queue)
    sock.settimeout(0.05)
    kafka: Any = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    rest = b""
    while True:
        data = rest
        with contextlib.suppress(TimeoutError):
            data += sock.recv(65536)
        at = 0
        for head, end in messages_in(data):
            start = data.index(b"\n\n", at) + 2
            length = int(value(head, b"\ncontent-length:"))
            path = value(head, b"\noriginal-destination:")[7:]
            kafka.produce(topic, data[start : start + length], path.removesuffix(b".pub") + b".sub")
            sock.sendall(b"ACK\nid:%b\n\n\x00" % value(head, b"\nack:"))
            at = end
        rest = data[at:]
        kafka.poll(0)


def down(host: str, port: int, consumer: Any) -> None:
    """Kafka → broker."""
    sock = connect(host, port)
    while True:
        record = consumer.poll(1.0)
        if record is not None and not record.error():
            body = record.value()
            head = b"SEND\ndestination:/topic/%b\nActiveMQ.MQTT.QoS:1\ncontent-length:%d\n\n" % (
                record.key(),
                len(body),
            )
            sock.sendall(b"%b%b\x00" % (head, body))


def main() -> None:
    near, far, port, queue, servers, topic = json.loads(sys.argv[1])
    assigned = threading.Event()
    consumer: Any = Consumer({"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic], on_assign=lambda *_: assigned.set())
    threading.Thread(target=up, args=(near, port, queue, servers, topic), daemon=True).start()
    while not assigned.is_set():
        assert consumer.poll(0.1) is None
    print("ready", flush=True)
    down(far, port, consumer)


if __name__ == "__main__":
    main()
