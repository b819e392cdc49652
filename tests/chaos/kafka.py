"""Kafka's end of the load: a back end that produces for devices, and a reader of everything the bridge writes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from kalinka_jms.lab.waiting import wait_until
from tests.chaos.judge import Judge
from tests.chaos.message import BACK_END, KAFKA, Stream, decode, encode

QUEUED = 2000
"""Records without Kafka's answer at which the back end falls silent."""
UP = ("0.mqtt.mqtt", f"0.mqtt.{BACK_END}")
DOWN = f"0.{BACK_END}.mqtt"
_CLIENT: dict[str, Any] = {
    "log_level": 0,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 250,
    "socket.timeout.ms": 10_000,  # as Kalinka's own clients: what stands still is not the proof's
}


class Kafka:
    """One thread that produces at `rate` records a second for `devices`, in turn, and reads what comes up."""

    def __init__(self, judge: Judge, run: str, bootstrap: str, devices: Sequence[str], *, size: int = 256) -> None:
        self.rate = 0.0
        self.failure: Exception | None = None
        self.silent: frozenset[str] = frozenset()
        """Devices for which nothing is produced now."""
        self._judge = judge
        self._run_id = run
        self._streams = [Stream(BACK_END, device, KAFKA) for device in devices]
        self._size = size
        self._producer = Producer(_producer(bootstrap))
        self._consumer = Consumer(_consumer(bootstrap))
        self._pending: dict[tuple[Stream, int], float] = {}
        self._bursts: SimpleQueue[tuple[str, int, int]] = SimpleQueue()
        self._over = Event()
        self._reading = Event()
        self._turn = 0
        self._thread = Thread(target=self._run, name="kafka", daemon=True)

    def start(self) -> None:
        """Begin to read at the present end of the topics."""
        self._consumer.assign([place for topic in UP for place in self._ends(topic)])
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._producer.purge()
        self._consumer.close()

    def burst(self, device: str, count: int, size: int) -> None:
        """Produce that many larger records for one device, beside the others."""
        self._bursts.put((device, count, size))

    def oldest(self) -> float:
        """When the oldest record without Kafka's answer was produced; now, where there is none."""
        return next(iter(list(self._pending.values())[:1]), time.monotonic())

    def _run(self) -> None:
        try:
            last, due = time.monotonic(), 0.0
            while not self._over.is_set():
                for message in self._consumer.consume(500, 0.01):
                    self._take(message)
                now = time.monotonic()
                due = min(due + (now - last) * self.rate, self.rate / 5)
                last = now
                while due >= 1 and len(self._pending) < QUEUED:
                    self._produce()
                    due -= 1
                while not self._bursts.empty():
                    device, count, size = self._bursts.get()
                    for _ in range(count):
                        self._send(Stream(BACK_END, device, KAFKA), size)
                self._producer.poll(0)
        except Exception as error:
            self.failure = error
            raise

    def _take(self, message: Message) -> None:
        found = decode(self._run_id, message.value() or b"") if message.error() is None else None
        if found is None:
            return
        stream, number = found
        self._judge.arrive("up", stream, number, KAFKA, time.monotonic())
        if stream.destination != BACK_END:
            self._judge.promise("down", stream, number)

    def _produce(self) -> None:
        self._turn += 1
        stream = self._streams[self._turn % len(self._streams)]
        if stream.destination not in self.silent:
            self._send(stream, self._size)

    def _send(self, stream: Stream, size: int) -> None:
        now = time.monotonic()
        number = self._judge.send(stream, now)
        self._pending[stream, number] = now
        body = encode(self._run_id, stream, number, size)
        done = partial(self._answered, stream, number)
        self._producer.produce(DOWN, key=stream.destination.encode(), value=body, on_delivery=done)

    def _answered(self, stream: Stream, number: int, error: object, _: Message) -> None:
        del self._pending[stream, number]
        if error is None:
            self._judge.promise("down", stream, number)

    def _ends(self, topic: str) -> list[TopicPartition]:
        partitions = self._consumer.list_topics(topic, 30).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, 30)[1]
        return places


def wait_settled(parts: Sequence[Any], moment: float, timeout: float) -> bool:
    """Wait until everything sent before `moment` has an answer (or never will have)."""
    return wait_until(lambda: all(part.oldest() >= moment for part in parts), timeout)


def _consumer(bootstrap: str) -> dict[str, Any]:
    return {
        **_CLIENT,
        "bootstrap.servers": bootstrap,
        "group.id": f"chaos-{uuid.uuid4().hex}",  # required by the client; nothing is ever committed to it
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 20,
        "fetch.error.backoff.ms": 100,
    }


def _producer(bootstrap: str) -> dict[str, Any]:
    return {
        **_CLIENT,
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "linger.ms": 2,
        "retry.backoff.ms": 50,
        "retry.backoff.max.ms": 250,
    }
