"""`kalinka pub`: the brokers' queues → Kafka.

Every instance subscribes on every broker as an exclusive consumer of equal priority, so that one is active for a queue
and the others stand by. A message is acknowledged to the broker only when Kafka has confirmed it and everything
before it. Each broker has a thread that owns its session: one link and one producer, which live and end together.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaException, Producer

from kalinka_jms.config import Broker, Settings
from kalinka_jms.errors import ConfigError, KafkaError, LinkError, LinkLost, RecordError
from kalinka_jms.frames import Frame
from kalinka_jms.kafka import OWN_FAULT, producer
from kalinka_jms.records import dead_letter, to_record
from kalinka_jms.routes import Uplinks
from kalinka_jms.stomp import Link
from kalinka_jms.watermark import Watermark

log = logging.getLogger("kalinka.pub")

DRAIN_TIMEOUT = 20.0
"""Seconds that Kafka has to confirm the window when a session ends in order; after that the broker redelivers it."""

STALL = 10.0
"""Seconds without a turn of the loop after which the process counts as stopped: others may be active by now."""

RETRY_FIRST, RETRY_MOST = 0.2, 2.0
"""Seconds between attempts to connect, doubled from the first to the most."""

Preferred = Callable[[str], bool]
"""Whether this instance should be the active one of the named broker."""


class ProducerFailed(KafkaError):
    """A record failed for a reason that is not its own: the session ends, the broker redelivers in order."""


@dataclass(slots=True)
class Subscription:
    """One queue of one session: what was received and not yet acknowledged."""

    number: str
    queue: str
    window: Watermark
    acks: dict[int, bytes]
    newest: int = 0
    acked: int = 0

    def open(self, frame: Frame) -> int:
        """Note one more message; return its place in the order of the queue."""
        self.newest += 1
        self.window.add(self.newest)
        self.acks[self.newest] = frame.raw("ack") or b""
        return self.newest

    def acknowledge(self) -> bytes:
        """Return the ACK frame that covers what Kafka has confirmed since the last one; empty if nothing."""
        last = self.window.last
        if last is None or last == self.acked:
            return b""
        ack = self.acks[last]
        for place in range(self.acked + 1, last + 1):
            del self.acks[place]
        self.acked = last
        return b"ACK\nid:%b\n\n\x00" % ack  # the id goes back as it came, still escaped


class Inbox:
    """What the link's reading thread has received; it is held back while more than `max_bytes` are unconfirmed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._room = threading.Condition()
        self._batches: queue.SimpleQueue[list[Frame] | LinkLost] = queue.SimpleQueue()
        self._heard: Callable[[], None] = lambda: None
        self._closed = False

    def attach(self, link: Link) -> None:
        """The link to keep alive while it is held back."""
        self._heard = link.heard

    def put(self, batch: list[Frame] | LinkLost) -> None:
        """Sink of the link."""
        if isinstance(batch, list):
            with self._room:
                while self._bytes > self._max_bytes and not self._closed:
                    self._room.wait(1.0)
                    self._heard()
                self._bytes += sum(frame.size for frame in batch)
        self._batches.put(batch)

    def get(self, timeout: float) -> list[Frame]:
        """Return the next batch, empty if none came in `timeout` seconds. Raises LinkLost at the end."""
        try:
            batch = self._batches.get(timeout=timeout)
        except queue.Empty:
            return []
        if isinstance(batch, LinkLost):
            raise batch
        return batch

    def release(self, size: int) -> None:
        """`size` bytes are confirmed."""
        with self._room:
            self._bytes -= size
            self._room.notify()

    def close(self) -> None:
        """Never hold the reading thread back again."""
        with self._room:
            self._closed = True
            self._room.notify()


class Session:
    """One link and one producer, from connect to the end; whatever ends it, nothing of it is used again."""

    def __init__(self, broker: Broker, settings: Settings, uplinks: Uplinks, preferred: Preferred) -> None:
        self._broker = broker
        self._settings = settings
        self._uplinks = uplinks
        self._preferred = preferred
        self._inbox = Inbox(settings.pub.max_bytes)
        self._link = Link(broker, self._inbox.put)
        self._inbox.attach(self._link)
        self._kafka: Producer | None = None
        self._subscriptions: dict[bytes, Subscription] = {}
        self._confirmed_bytes = 0
        self._pending = 0
        self._failure: Exception | None = None
        self._active = False

    def open(self) -> None:
        """Connect and subscribe. Raises LinkError, and ConfigError where librdkafka refuses its settings."""
        self._link.connect()
        self._kafka = producer(self._settings)
        headers = {"activemq.prefetchSize": str(self._settings.pub.prefetch)}
        if self._settings.pub.exclusive:
            headers["activemq.exclusive"] = "true"
        for number, name in enumerate(self._settings.pub.queues, 1):
            subscription = Subscription(str(number), name, Watermark(), {})
            self._subscriptions[subscription.number.encode()] = subscription
            self._link.subscribe(f"/queue/{name}", subscription.number, ack="client", headers=headers)

    def run(self, stop: threading.Event) -> None:
        """Carry messages until `stop` is set or another instance should be active; then drain and leave in order.

        Raises LinkError or ProducerFailed when it ends otherwise; what was not acknowledged is redelivered.
        """
        try:
            turn = time.monotonic()
            while not stop.is_set() and not self._outplaced():
                frames = self._inbox.get(0.005 if self._pending else 0.25)
                turn = self._same_process(turn)
                self._carry(frames)
            self._drain()
            self._link.disconnect()
        finally:
            self.abort()

    def abort(self) -> None:
        """End at once: nothing that is still under way is confirmed to the broker."""
        self._inbox.close()
        self._link.drop("the session ended")
        if self._kafka is not None:
            self._kafka.purge()
            self._kafka.poll(0)

    def _carry(self, frames: list[Frame]) -> None:
        if frames and not self._active:
            self._active = True
            log.info("active on a broker", extra={"broker": self._broker.name})
        for frame in frames:
            self._message(frame)
        self._settle()

    def _message(self, frame: Frame) -> None:
        subscription = self._subscriptions[frame.raw("subscription") or b""]
        place = subscription.open(frame)
        try:
            link = self._uplinks.link_destination(frame)
            self._produce(*to_record(frame, link, self._broker.name), subscription, place, frame)
        except RecordError as error:
            self._bury(subscription, place, frame, str(error))

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Any,
        subscription: Subscription,
        place: int,
        frame: Frame,
    ) -> None:
        done = partial(self._done, subscription, place, frame, topic)
        self._pending += 1
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=done, headers=headers)
                return
            except BufferError:  # librdkafka's own queue is full: push back
                self._producer.poll(0.1)
            except KafkaException as error:
                done(error.args[0], None)
                return

    def _bury(self, subscription: Subscription, place: int, frame: Frame, reason: str) -> None:
        """Send a message that can never be mapped to the dead-letter topic, byte for byte."""
        topic, key, value, headers = dead_letter(
            frame, self._broker.name, subscription.queue, reason, self._settings.dead
        )
        log.warning("dead letter", extra={"reason": reason, "broker": self._broker.name, "kalinka.id": headers[0][1]})
        self._produce(topic, key, value, headers, subscription, place, frame)

    def _done(self, subscription: Subscription, place: int, frame: Frame, topic: str, error: Any, _: object) -> None:
        """Kafka's answer for one record (called from `poll`)."""
        self._pending -= 1
        if error is None:
            subscription.window.finish(place)
            self._confirmed_bytes += frame.size
        elif error.code() in OWN_FAULT and topic != self._settings.dead:
            self._bury(subscription, place, frame, f"Kafka refused it: {error.str()}")
        elif self._failure is None:
            self._failure = ProducerFailed(f"cannot write to {topic}: {error.str()}")

    def _settle(self) -> None:
        """Take Kafka's answers; acknowledge what they complete."""
        self._producer.poll(0)
        if self._failure is not None:
            raise self._failure
        if acks := b"".join(subscription.acknowledge() for subscription in self._subscriptions.values()):
            self._link.write(acks)
            self._inbox.release(self._confirmed_bytes)
            self._confirmed_bytes = 0

    def _drain(self) -> None:
        """Wait until everything produced is confirmed and acknowledged; what was only received is discarded.

        Raises ProducerFailed when Kafka does not confirm in time.
        """
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while self._pending and time.monotonic() < deadline:
            self._producer.flush(0.1)
            self._settle()
        if self._pending:
            raise ProducerFailed(f"Kafka did not confirm {self._pending} records in {DRAIN_TIMEOUT:.0f} s")

    @property
    def _producer(self) -> Producer:
        assert self._kafka is not None, "open() comes first"
        return self._kafka

    def _outplaced(self) -> bool:
        return self._active and not self._preferred(self._broker.name)

    def _same_process(self, turn: float) -> float:
        """Raises LinkLost when this process stood still so long that another one may have taken over."""
        now = time.monotonic()
        if now - turn > STALL:
            raise LinkLost(f"{self._broker.name}: this process stood still for {now - turn:.0f} s")
        return now


class BrokerPub:
    """Keeps a session with one broker: opens it, and opens it again whenever it ended."""

    def __init__(self, broker: Broker, settings: Settings, uplinks: Uplinks, preferred: Preferred) -> None:
        self.broker = broker
        self.up = threading.Event()
        """Set while subscribed at the broker."""
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""
        self._session = partial(Session, broker, settings, uplinks, preferred)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pub-{broker.name}", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def stop(self) -> None:
        """Begin to drain and leave; `join` waits for the end of it."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._keep()
        except BaseException as error:
            self.failure = error
            log.exception("the pipeline failed", extra={"broker": self.broker.name})

    def _keep(self) -> None:
        wait, told = RETRY_FIRST, ""
        while not self._stop.is_set():
            try:
                self._once()
                wait, told = RETRY_FIRST, ""
                continue
            except (LinkError, KafkaError, ConfigError, ValueError) as error:  # ValueError: an unreadable secret
                wait = RETRY_FIRST if self.up.is_set() else min(wait * 2, RETRY_MOST)
                if str(error) != told:
                    log.warning("link lost", extra={"broker": self.broker.name, "reason": str(error)})
                    told = str(error)
            finally:
                self.up.clear()
            self._stop.wait(wait)

    def _once(self) -> None:
        session = self._session()
        try:
            session.open()
        except BaseException:
            session.abort()
            raise
        self.up.set()
        log.info("link up", extra={"broker": self.broker.name})
        session.run(self._stop)


class Pub:
    """The uplink of one instance: a `BrokerPub` for every broker."""

    def __init__(self, settings: Settings, preferred: Preferred = lambda _: True) -> None:
        uplinks = [Uplinks(settings.routes.up, settings.groups) for _ in settings.brokers]  # caches are not shared
        pairs = zip(settings.brokers, uplinks, strict=True)
        self._brokers = [BrokerPub(broker, settings, links, preferred) for broker, links in pairs]

    def start(self) -> None:
        for broker in self._brokers:
            broker.start()

    def stop(self) -> None:
        """Begin to drain every session; `join` waits for it."""
        for broker in self._brokers:
            broker.stop()

    def join(self) -> None:
        for broker in self._brokers:
            broker.join()

    @property
    def failed(self) -> bool:
        """Whether a thread ended that should not have."""
        return any(broker.failure is not None for broker in self._brokers)

    @property
    def links(self) -> dict[str, bool]:
        """Broker → whether this instance is subscribed there."""
        return {broker.broker.name: broker.up.is_set() for broker in self._brokers}
