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
from kalinka_jms.frames import Frame
from kalinka_jms.sends import ECHO_TOPIC, Evidence, evidence
from kalinka_jms.stomp import Link

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


@dataclass(frozen=True, slots=True)
class Proofs:
    """What came back on the connection with this identity, in the broker's order."""

    broker: str
    identity: str
    evidence: list[Evidence]


Event = LinkUp | LinkDown | Proofs


class Outlet:
    """Keeps a link to one broker and posts what happens there as events."""

    def __init__(self, broker: Broker, topics: tuple[str, ...], post: Callable[[Event], None]) -> None:
        """`topics` are the JMS wildcards of what devices listen to; `post` is called from this outlet's threads."""
        self.broker = broker
        self._topics = topics
        self._post = post
        self._stop = threading.Event()
        self._writes: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._link: Link | None = None
        self._thread = threading.Thread(target=self._run, name=f"sub-{broker.name}", daemon=True)
        self.start = self._thread.start

    def write(self, identity: str, data: bytes) -> None:
        """Queue whole frames for the connection `identity`; dropped where that is gone (its LinkDown is coming)."""
        link = self._link
        if link is not None and link.identity == identity:
            self._writes.put(data)

    def drop(self, identity: str | None, reason: str) -> None:
        """End the connection `identity` (None: whichever there is); a new one is made."""
        link = self._link
        if link is not None and identity in (None, link.identity):
            link.drop(reason)

    def stop(self) -> None:
        """Disconnect in order and end."""
        self._stop.set()
        self._writes.put(None)

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        wait, told = RETRY_FIRST, ""
        while not self._stop.is_set():
            try:
                link = self._connect()
            except (LinkError, ValueError) as error:  # ValueError: a secret that cannot be read now
                if str(error) != told:
                    log.warning("cannot connect", extra={"broker": self.broker.name, "reason": str(error)})
                    told = str(error)
                self._stop.wait(wait)
                wait = min(wait * 2, RETRY_MOST)
                continue
            wait, told = RETRY_FIRST, ""
            self._serve(link)

    def _connect(self) -> Link:
        writes: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        link = Link(self.broker, lambda batch: self._sink(link, writes, batch))
        link.connect()
        parts = [*(NO_CONSUMER + topic for topic in self._topics), ECHO_TOPIC + link.identity]
        # one composite: two subscriptions have no common order; no selector: they lose advisories in silence (tried)
        link.subscribe(",".join(parts), "1", headers={"transformation": "jms-advisory-json"})
        self._writes, self._link = writes, link
        return link

    def _serve(self, link: Link) -> None:
        """Write what is queued until the link or the process ends."""
        log.info("link up", extra={"broker": self.broker.name})
        self._post(LinkUp(self.broker.name, link.identity))
        try:
            while not self._stop.is_set() and (data := self._writes.get()) is not None:
                link.write(data)
        except LinkLost:
            return  # its reason comes through the sink
        if self._stop.is_set():
            link.disconnect()

    def _sink(self, link: Link, writes: queue.SimpleQueue[bytes | None], batch: list[Frame] | LinkLost) -> None:
        if isinstance(batch, LinkLost):
            if link is self._link and not self._stop.is_set():
                log.warning("link lost", extra={"broker": self.broker.name, "reason": str(batch)})
            self._post(LinkDown(self.broker.name, link.identity, str(batch)))
            writes.put(None)
        elif proofs := evidence(link.identity, batch):
            self._post(Proofs(self.broker.name, link.identity, proofs))
