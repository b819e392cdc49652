"""What the libraries do alone, each in a process of its own: `python -m tests.bench.alone PEER …`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import confluent_kafka
import stomp

from tests.bench.meter import rss_of

PAYLOAD = b"x" * 256
HEADERS: Any = [
    ("kalinka.id", b"dev1/ID:vm-1-1-3:3:-1:1:4"),
    ("kalinka.source", b"s1"),
    ("mqtt.topic", b"mqtt/s1/mqtt/d1/pub"),
]


class _Reader(stomp.ConnectionListener):  # type: ignore[misc]
    """Reads a queue with cumulative ACKs, every 100 messages."""

    def __init__(self, connection: Any, messages: int) -> None:
        self.connection = connection
        self.messages = messages
        self.count = 0
        self.first = 0.0
        self.done = threading.Event()

    def on_message(self, frame: Any) -> None:
        if not self.count:
            self.first = time.perf_counter()
        self.count += 1
        if self.count % 100 == 0 or self.count == self.messages:
            self.connection.ack(frame.headers["ack"])
        if self.count == self.messages:
            self.done.set()


def read(host: str, port: int, queue: str, messages: int) -> float:
    """stomp.py: read the queue, acknowledge."""
    connection = stomp.StompConnection12([(host, port)], auto_decode=False)
    listener = _Reader(connection, messages)
    connection.set_listener("", listener)
    connection.connect(wait=True)
    connection.subscribe(f"/queue/{queue}", id="1", ack="client", headers={"activemq.prefetchSize": "1000"})
    listener.done.wait(180)
    seconds = time.perf_counter() - listener.first
    connection.disconnect()
    return seconds


def send(host: str, port: int, destinations: list[str], messages: int) -> float:
    """stomp.py: send in transactions of 200, each with a receipt at its end."""
    connection = stomp.StompConnection12([(host, port)], auto_decode=False)
    waiting = stomp.listener.WaitingListener("last")
    connection.set_listener("", waiting)
    connection.connect(wait=True)
    began = time.perf_counter()
    for start in range(0, messages, 200):
        transaction = connection.begin()
        for i in range(start, min(start + 200, messages)):
            headers = {"ActiveMQ.MQTT.QoS": "1", "transaction": transaction}
            connection.send(destinations[i % len(destinations)], PAYLOAD, headers=headers)
        connection.commit(transaction, receipt="last" if start + 200 >= messages else None)
    waiting.wait_on_receipt()
    return time.perf_counter() - began


def produce(servers: str, topic: str, messages: int) -> float:
    """confluent-kafka: produce, idempotent, with a callback for every record."""
    settings = {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1}
    producer = confluent_kafka.Producer(settings)
    confirmed = [0]

    def done(error: Any, _: Any) -> None:
        confirmed[0] += error is None

    began = time.perf_counter()
    for i in range(messages):
        while True:
            try:
                producer.produce(topic, PAYLOAD, f"d{i % 300}", headers=HEADERS, on_delivery=done)
                break
            except BufferError:
                producer.poll(0.01)
        if i % 100 == 0:
            producer.poll(0)
    producer.flush()
    assert confirmed[0] == messages
    return time.perf_counter() - began


def consume(servers: str, topic: str, messages: int) -> float:
    """confluent-kafka: consume what is there."""
    settings = {"bootstrap.servers": servers, "group.id": f"bench-{time.time()}", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic])
    count, first = 0, 0.0
    while count < messages:
        batch = consumer.consume(500, 1.0)
        first = first or (time.perf_counter() if batch else 0.0)
        count += len(batch)
    seconds = time.perf_counter() - first
    consumer.close()
    return seconds


PEERS = {"read": read, "send": send, "produce": produce, "consume": consume}

if __name__ == "__main__":
    cpu = time.process_time()
    arguments = json.loads(sys.argv[2])
    result = PEERS[sys.argv[1]](*arguments)  # type: ignore[operator]
    print(
        json.dumps(
            {"messages": arguments[-1], "seconds": result, "cpu": time.process_time() - cpu, "rss": rss_of(os.getpid())}
        )
    )
