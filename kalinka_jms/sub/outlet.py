"""One broker as `kalinka sub` writes to it: a link that is kept up, a thread that writes, evidence that comes back.

The thread that writes is not the one that reads: while a broker's advisories back up it stops reading SENDs.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkError, LinkLost
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import ECHO_TOPIC, WORDS, Evidence, Reader
from kalinka_jms.sub.worker import Failed, worker

log = logging.getLogger("kalinka.sub")

NO_CONSUMER = "/topic/ActiveMQ.Advisory.NoConsumer.Topic."

RETRY_FIRST, RETRY_MOST = 0.2, 2.0
"""Seconds between attempts to connect, doubled from the first to the most."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A new connection stands; what was sent on an older one is not proven by it."""

    broker: str
    identity: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection with this identity is gone."""

    broker: str
    identity: str
    reason: str
    by_broker: bool = False
    """Whether the other side ended it."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """What came back on the connection with this identity, in the broker's order."""

    broker: str
    identity: str
    evidence: list[Evidence]


Event = LinkUp | LinkDown | Proofs


class Outlet:
    """Keeps a link to one broker and posts what happens there as events."""

    def __init__(
        self,
        broker: Broker,
        topics: tuple[str, ...],
        post: Callable[[Event | Failed], None],
        words: tuple[str, ...] = (),
    ) -> None:
        """`topics` are the JMS wildcards of what devices listen to, `words` those of them where what the broker says
        of single messages is wanted; `post` is called from this outlet's threads."""
        self.broker = broker
        self._topics = topics
        self._words = words
        self._post = post
        self._stop = threading.Event()
        self._line: _Line | None = None
        self._thread = worker(f"sub-{broker.name}", self._run, post)
        self.start = self._thread.start
        self.join = self._thread.join

    def write(self, identity: str, data: bytes) -> None:
        """Queue whole frames for the connection `identity`; dropped where that is gone (its LinkDown is coming)."""
        line = self._line
        if line is not None and line.link.identity == identity:
            line.writes.put(data)

    def drop(self, identity: str | None, reason: str) -> None:
        """End the connection `identity` (None: whichever there is); a new one is made."""
        line = self._line
        if line is not None and identity in (None, line.link.identity):
            line.link.drop(reason)

    def stop(self) -> None:
        """Disconnect in order and end."""
        self._stop.set()
        if self._line is not None:
            self._line.writes.put(None)

    def _run(self) -> None:
        wait, told = RETRY_FIRST, ""
        while not self._stop.is_set():
            try:
                self._line = self._connect()
            except (LinkError, ValueError) as error:  # ValueError: a secret that cannot be read now
                if str(error) != told:
                    log.warning("cannot connect", extra={"broker": self.broker.name, "reason": str(error)})
                    told = str(error)
                self._stop.wait(wait)
                wait = min(wait * 2, RETRY_MOST)
                continue
            wait, told = RETRY_FIRST, ""
            self._serve(self._line)

    def _connect(self) -> _Line:
        line = _Line(self.broker, self._post)
        line.link.connect()
        line.reader = Reader(line.link.identity, line.link.session)
        words = (f"/topic/ActiveMQ.Advisory.{word}.Topic.{topic}" for word in WORDS for topic in self._words)
        parts = [*(NO_CONSUMER + topic for topic in self._topics), *words, ECHO_TOPIC + line.link.identity]
        # one composite: two subscriptions have no common order; no selector: they lose advisories in silence (tried)
        line.link.subscribe(",".join(parts), "1", headers={"transformation": "jms-advisory-json"})
        return line

    def _serve(self, line: _Line) -> None:
        """Write what is queued until the link or the process ends."""
        name, identity = self.broker.name, line.link.identity
        log.info("link up", extra={"broker": name})
        self._post(LinkUp(name, identity))
        try:
            while not self._stop.is_set() and (data := line.writes.get()) is not None:
                line.link.write(data)
        except LinkLost as error:
            line.end(error)
        if self._stop.is_set():
            line.link.disconnect()
        else:
            log.warning("link lost", extra={"broker": name, "reason": line.reason})
        self._post(LinkDown(name, identity, line.reason, line.by_broker))


class _Line:
    """One connection, and what waits to be written on it."""

    def __init__(self, broker: Broker, post: Callable[[Event], None]) -> None:
        self.writes: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.reason = ""
        """Why it is lost."""
        self.by_broker = False
        self.link = Link(broker, self._sink)
        self.reader = Reader(self.link.identity, "")
        """Made anew when the broker has said what it calls the connection."""
        self._post = post

    def end(self, lost: LinkLost) -> None:
        """It is lost; the first reason counts."""
        if not self.reason:
            self.reason, self.by_broker = str(lost), lost.by_broker

    def _sink(self, batch: list[Frame] | LinkLost) -> None:
        if isinstance(batch, LinkLost):
            # who writes tells of the end, as of the beginning: told by two threads, the end could come first
            self.end(batch)
            self.writes.put(None)
        elif proofs := self.reader.evidence(batch):
            self._post(Proofs(self.link.broker.name, self.link.identity, proofs))
