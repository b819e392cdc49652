"""One session of `kalinka pub` with one broker: a link and a producer, which live and end together.

A message is acknowledged to the broker only when Kafka has confirmed it and everything before it in its queue. Nothing
is ever repaired within a session: what goes wrong ends it, and the broker hands out again, in order, whatever was not
acknowledged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from kalinka_jms.config import Broker, Settings
from kalinka_jms.errors import LinkLost
from kalinka_jms.pub.account import Account, Flight
from kalinka_jms.pub.inbox import Inbox
from kalinka_jms.pub.outbox import Outbox, ProducerFailed
from kalinka_jms.pub.window import Window, accepted
from kalinka_jms.routes import Uplinks
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link

log = logging.getLogger("kalinka.pub")

IDLE, BUSY = 0.25, 0.005
"""Seconds to wait for messages: when nothing is under way, and when Kafka's answers are to be looked for. Under load
those are taken, and the broker is told, that often as well: an ACK for every read costs 1 µs a message (tried)."""

DRAIN_TIMEOUT = 20.0
"""Seconds that Kafka has to confirm the window when a session ends in order; after that the broker redelivers it."""

STALL = 10.0
"""Seconds between two turns of the loop after which the process counts as stopped: others may be active by now."""

PATIENCE = 60.0
"""Seconds without anything acknowledged after which Kafka is asked whether it can be reached from here at all."""

STAY = 15.0
"""Seconds that an active session stays before it makes room for another instance: longer than ZooKeeper and `Members`
take to notice that the other one is dead."""

STATE = 0.25
"""Seconds between two statements of the account."""

SLOW = 1.0
"""Seconds without anything acknowledged after which Kafka counts as slow."""


class Session:
    """From connect to the end; whatever ends it, nothing of it is used again.

    `account`: where messages are counted. `batch_size`: bytes of the largest batch of records. `needed`: a Kafka topic
    that must exist before it begins.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        uplinks: Uplinks,
        account: Account,
        batch_size: int,
        needed: str | None = None,
    ) -> None:
        self.received = 0
        """Messages taken from the inbox."""
        self.acknowledged = 0
        """Messages that the broker was told of."""
        self._account = account
        self._stated = 0.0
        self._name = broker.name
        self._settings = settings
        self._needed = needed
        self._inbox = Inbox(settings.pub.max_bytes)
        self._link = Link(broker, self._inbox.put)
        self._inbox.attach(self._link)
        self._made: Outbox | None = None
        self._windows: dict[bytes | None, Window] = {}
        self._make_outbox = partial(Outbox, broker.name, settings, uplinks, account, batch_size, self._windows)
        self._left: list[Frame] = []
        self._turned = self._settled = self._progressed = time.monotonic()
        self._active_since: float | None = None

    @property
    def turned(self) -> float:
        """When it turned last (seconds, monotonic)."""
        return self._turned

    def open(self) -> None:
        """Connect to both, then subscribe: an instance that cannot reach Kafka must not keep others from the queues.

        Raises LinkError, KafkaError, and ConfigError where librdkafka refuses its settings.
        """
        self._link.connect()
        self._made = self._make_outbox()
        self._made.ask(self._needed)
        headers = {"activemq.prefetchSize": str(self._settings.pub.prefetch)}
        if self._settings.pub.exclusive:
            headers["activemq.exclusive"] = "true"
        for number, queue in enumerate(self._settings.pub.queues, 1):
            self._windows[b"%d" % number] = Window(queue)
            self._link.subscribe(f"/queue/{queue}", str(number), ack="client", headers=headers)

    def run(self, stop: threading.Event, preferred: Callable[[str], bool]) -> None:
        """Carry messages until `stop` is set or another instance should be active; then drain and leave in order.

        Raises LinkError or KafkaError when it ends otherwise; what was not acknowledged is redelivered.
        """
        self._turned = self._progressed = time.monotonic()
        while not stop.is_set() and not self._outplaced(preferred):
            self._turn()
        self._drain()
        self._link.disconnect()

    def abort(self) -> None:
        """End at once: nothing that is still under way is confirmed to the broker."""
        self._inbox.close()
        self._link.drop("the session ended")
        if self._made is not None:
            self._made.close()
        self._inbox.clear()
        for window in self._windows.values():
            window.clear()
        self._account.given_back += self.received - self.acknowledged
        self._account.state(Flight())

    def _turn(self) -> None:
        frames = self._left or self._taken(BUSY if self._under_way else IDLE)
        self._look_at_the_time()
        if frames and self._active_since is None:
            self._active_since = self._turned
            log.info("active on a broker", extra={"broker": self._name})
        self._left = self._outbox.carry(frames)
        if self._left:
            self._outbox.poll(BUSY)
        if not frames or self._turned - self._settled >= BUSY:
            self._settle()
            self._state()

    def _taken(self, timeout: float) -> list[Frame]:
        frames = self._inbox.get(timeout)
        self.received += len(frames)
        self._account.received += len(frames)
        return frames

    def _state(self) -> None:
        """Say how the account stands, a few times a second."""
        if self._turned - self._stated < STATE:
            return
        self._stated = self._turned
        windows = self._windows.values()
        firsts = [*(window.oldest for window in windows), *(accepted(frame) for frame in self._left[:1])]
        flight = Flight(
            messages=self._under_way + len(self._left),
            bytes=self._inbox.bytes,
            oldest=min((first for first in firsts if first is not None), default=None),
            active=tuple(window.queue for window in windows if window.told or len(window)),
        )
        self._account.state(flight)

    def _settle(self) -> None:
        """Take Kafka's answers; tell the broker what they complete."""
        self._settled = self._turned
        self._outbox.poll(0)
        told, now = b"", time.time()
        for window in self._windows.values():
            if window.failures:
                self._outbox.judge(window)
            frames, count, size = window.settle(now)
            if count:
                told += frames
                self.acknowledged += count
                self._inbox.release(size)
        if told:
            self._link.write(told)
            self._progressed = self._turned

    def _drain(self) -> None:
        """Wait until everything produced is confirmed and acknowledged; what was only received is discarded.

        Raises ProducerFailed when Kafka does not confirm in time.
        """
        deadline = time.monotonic() + DRAIN_TIMEOUT
        self._inbox.close()
        while under_way := self._under_way:
            if time.monotonic() > deadline:
                raise ProducerFailed(f"Kafka did not confirm {under_way} records in {DRAIN_TIMEOUT:.0f} s")
            while self._inbox.get(0):
                pass  # until LinkLost, if there is one
            self._outbox.flush(0.1)
            self._look_at_the_time()
            self._settle()
            self._state()

    @property
    def _outbox(self) -> Outbox:
        assert self._made is not None, "open() comes first"
        return self._made

    @property
    def _under_way(self) -> int:
        """Messages that were produced and are not acknowledged."""
        return sum([len(window) for window in self._windows.values()])

    def _outplaced(self, preferred: Callable[[str], bool]) -> bool:
        """Whether to make room for another instance. Not while Kafka is slow: then it could not be done in order."""
        if self._active_since is None or not self._settings.pub.exclusive:
            return False
        slow = self._turned - self._progressed > SLOW
        if slow or self._turned - self._active_since < STAY or preferred(self._name):
            return False
        log.info("making room for another instance", extra={"broker": self._name})
        return True

    def _look_at_the_time(self) -> None:
        """Raises LinkLost when this process stood still so long that another one may have taken over, and KafkaError
        when Kafka confirms nothing and cannot be reached from here (any more)."""
        now = time.monotonic()
        still, self._turned = now - self._turned, now
        if still > STALL:
            raise LinkLost(f"{self._name}: this process stood still for {still:.0f} s")
        if not self._under_way:
            self._progressed = now
        elif now - self._progressed > PATIENCE:
            log.warning("Kafka confirms nothing", extra={"broker": self._name})
            self._outbox.ask(None)
            self._turned = self._progressed = time.monotonic()
