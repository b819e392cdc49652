"""One term of a broker's elected watcher: from its election until it stops, is deposed, or gives the broker up."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable

from kalinka_jms.errors import FrameError, LinkError, LinkLost, RegistryError
from kalinka_jms.registry.advisories import Filter, parse
from kalinka_jms.registry.post import Post
from kalinka_jms.registry.pulse import TURN, Pulse
from kalinka_jms.registry.roster import Change, Roster
from kalinka_jms.registry.writer import Writer, seen
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import ECHO_TOPIC

log = logging.getLogger("kalinka.registry")

CONSUMERS = "/topic/ActiveMQ.Advisory.Consumer.Topic.>"
"""Consumers of all topics. Those of the presence topics alone would not do: a filter that is wider than theirs
(`mqtt/+/mqtt/dev1/#`) is replayed there, but its beginning and its end are not told (tried on 6.3.1)."""

RETRY_FIRST, RETRY_MOST = 0.2, 1.0
"""Seconds between attempts to connect, doubled from the first to the most."""

ECHO_TIMEOUT = 10.0
"""Seconds without a frame after which a replay whose echo has not come is given up."""

WINDOW = 200
"""Batches of frames that may wait to be taken, of at most 64 KiB each; then the link is read no further."""

DRAIN = 10.0
"""Seconds that writes may take when the watcher leaves."""

WriterMaker = Callable[[Callable[[RegistryError], None]], Writer]
"""Makes the writer of this term, given what to call when nothing can be written any more."""


class Term:
    """Keeps a link to the broker, its roster up to date, and the registry with it.

    Everything happens on the thread that calls `run`; the link's thread only hands its frames over.
    """

    def __init__(self, post: Post, writer: WriterMaker, told: str = "") -> None:
        self._post = post
        self.writer = writer(self.depose)
        self._inbox: queue.SimpleQueue[tuple[Link, list[Frame] | LinkLost] | RegistryError | None] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(WINDOW)
        self._link: Link | None = None
        self._number = 0  # of the subscription: what an older one still brings counts no more
        self._deadline = 0.0  # of the echo, or for the next reconciliation
        self._lost = time.monotonic()
        self._retry, self._wait = 0.0, RETRY_FIRST
        self.told = told
        """Why there is no link, as it was logged last."""
        self._strangers: frozenset[Filter] = frozenset()
        self._state = ""
        self._found = False  # what earlier watchers left in the registry has been looked through
        self.roster = Roster(post.broker.name, post.presence)
        self.settled = False
        """Whether the link stands and the roster is known to be true."""
        self.pulse = Pulse()

    @property
    def pending(self) -> int:
        """Devices whose change is not in the registry yet."""
        return self.writer.pending

    @property
    def linked(self) -> bool:
        """Whether there is a link to the broker."""
        return self._link is not None

    def depose(self, error: RegistryError) -> None:
        """End the term, from any thread; `run` raises the error."""
        self._inbox.put(error)

    def wake(self) -> None:
        """Look at once whether to stop."""
        self._inbox.put(None)

    def run(self) -> None:
        """Watch until told to stop, or until the broker is given up. Raises RegistryError when deposed."""
        try:
            self._begin()
            while not self._post.stopping.is_set() and not self._gave_up():
                self._turn()
            self._end()
        finally:
            self.writer.close()
            self.settled = False
            if self._link is not None:
                self._link.drop("the watcher's term is over")

    def _begin(self) -> None:
        self.writer.prepare()
        state = self.writer.state()
        self._state = str(state.get("state", ""))
        self.roster = Roster(self._post.broker.name, self._post.presence, seen(state))

    def _turn(self) -> None:
        """Wait for the next thing to do, and do it."""
        link, now = self._link, self.pulse.turn(self.settled and not self.pending)
        if link is not None and self.settled and not self.roster.replaying and now >= self._deadline:
            self._guarded(link, self._subscribe)
        try:
            item = self._inbox.get(timeout=min(max(0.0, self._next() - now), TURN))
        except queue.Empty:
            self._when_due()
        else:
            self._take(item)

    def _next(self) -> float:
        """When there is something to do by itself."""
        if self._link is not None:
            return self._deadline
        return self._retry if self._state == "down" else min(self._retry, self._lost + self._post.grace)

    def _when_due(self) -> None:
        """Nothing came until it was time. (A replay that is here and not read yet is not late.)"""
        now = time.monotonic()
        if self._link is None:
            if now >= self._retry:
                self._connect()
        elif self.roster.replaying and now >= self._deadline:
            self._link.drop("the echo of the replay did not come back")
            self._deadline = now + ECHO_TIMEOUT  # for the link's last word

    def _take(self, item: tuple[Link, list[Frame] | LinkLost] | RegistryError | None) -> None:
        if isinstance(item, RegistryError):
            raise item
        if item is None:
            return
        link, batch = item
        if isinstance(batch, LinkLost):
            if link is self._link:
                self._link_lost(batch)
            return
        self._room.release()
        if link is self._link:
            self._read(link, batch)

    # -- the link

    def _connect(self) -> None:
        link = self._post.link(self._post.broker, lambda batch: self._hand_over(link, batch))
        try:
            link.connect()
        except (LinkError, ValueError) as error:  # ValueError: a secret that cannot be read now
            self._link_lost(error)
            return
        self._link = link
        self._guarded(link, self._subscribe)

    def _hand_over(self, link: Link, batch: list[Frame] | LinkLost) -> None:
        """The link's sink. Where too much waits already the link is not read on, until there is room or it ends."""
        if not isinstance(batch, LinkLost):
            while not self._room.acquire(timeout=1.0):
                link.heard()
                if link is not self._link:
                    return
        self._inbox.put((link, batch))

    def _guarded(self, link: Link, action: Callable[[Link], None]) -> None:
        try:
            action(link)
        except LinkLost as error:
            link.drop(str(error))  # its last word is on the way
            self._deadline = time.monotonic() + ECHO_TIMEOUT

    def _subscribe(self, link: Link) -> None:
        """Make a new subscription, for its replay; the echo, sent after it, comes back where the replay ends."""
        if self._number:
            link.write(encode("UNSUBSCRIBE", [("id", str(self._number))]))
        self.roster.begin()
        self._number += 1
        echo = ECHO_TOPIC + link.identity
        # one composite, so that both come in one order; no selector, they lose advisories in silence (tried)
        headers = {"transformation": "jms-advisory-json"}
        link.subscribe(f"{CONSUMERS},{echo}", str(self._number), headers=headers)
        link.write(encode("SEND", [("destination", echo), ("kn", f"{link.identity}.{self._number}")]))
        self._deadline = time.monotonic() + ECHO_TIMEOUT

    def _link_lost(self, error: Exception) -> None:
        now = time.monotonic()
        if self._link is not None:
            self._lost, self._wait, self.told = now, RETRY_FIRST, ""
        self._link, self._number, self.settled = None, 0, False
        self._retry, self._wait = now + self._wait, min(self._wait * 2, RETRY_MOST)
        if str(error) != self.told:
            self.told = str(error)
            log.warning("no link to a broker", extra={"broker": self._post.broker.name, "reason": self.told})

    # -- what comes

    def _read(self, link: Link, frames: list[Frame]) -> None:
        if self.roster.replaying:
            self._deadline = time.monotonic() + ECHO_TIMEOUT
        number = str(self._number).encode()
        for frame in frames:
            if frame.raw("subscription") != number:
                continue
            if frame.raw("kn") is not None:
                self._echo(link, frame)
            elif not frame.body:
                link.drop("advisories without a body: another subscriber asks for another transformation")
                return
            else:
                self._advisory(frame)
        self._tell_strangers()

    def _advisory(self, frame: Frame) -> None:
        try:
            advisory = parse(frame.body)
        except FrameError as error:
            log.error("%s", error, extra={"broker": self._post.broker.name})
            return
        if advisory is not None:
            self._apply(self.roster.feed(advisory))

    def _echo(self, link: Link, frame: Frame) -> None:
        if frame.raw("kn") != f"{link.identity}.{self._number}".encode() or not self.roster.replaying:
            return
        self._apply(self.roster.settle())
        self._find()
        self.pulse.reconciled()
        self._deadline = time.monotonic() + self._post.resync
        if not self.settled:
            self.settled, self.told = True, ""
            log.info("watching", extra={"broker": self._post.broker.name, "devices": len(self.roster)})
        self._declare_up()

    def _find(self) -> None:
        """What the registry still has of this broker, and the broker has not, goes (once a term: we wrote the rest)."""
        if not self._found:
            for device in self.writer.devices():
                if device not in self.roster:
                    self.writer.apply(device, None, live=False)
            self._found = True

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.writer.apply(change.device, change.part, change.live)

    def _tell_strangers(self) -> None:
        strangers = frozenset(self.roster.eavesdroppers)
        for filter in strangers - self._strangers:
            log.warning(
                "a client listens to devices' topics: while it does, this broker does not report their absence",
                extra={"broker": self._post.broker.name, "filter": filter.topic, "consumer": filter.consumer},
            )
        self._strangers = strangers

    # -- the broker's state

    def _declare_up(self) -> None:
        """The broker counts (again), once nothing is left in the registry of what was there before."""
        while self._state != "up" and not self.writer.flush(1.0):
            if self._post.stopping.is_set():
                return
        self._declare("up")

    def _gave_up(self) -> bool:
        """Whether the broker has been away for so long that another watcher should try: maybe it reaches it."""
        if self._link is not None or time.monotonic() < self._lost + self._post.grace:
            return False
        if self._state != "down":
            log.warning("a broker does not count any more", extra={"broker": self._post.broker.name})
            self._declare("down")
        return True

    def _declare(self, state: str) -> None:
        self.writer.declare({"state": state, "seen": dict(self.roster.seen)})
        self._state = state

    def _end(self) -> None:
        """Leave in order: take what has come, write it, and leave what was seen to the next."""
        if self._link is None or not self.settled:
            return
        self._drain()
        self._link.disconnect()
        self._drain()
        if self.writer.flush(DRAIN) and not self.roster.replaying:
            self._declare(self._state)

    def _drain(self) -> None:
        while not self._inbox.empty():
            item = self._inbox.get()
            if not isinstance(item, tuple) or not isinstance(item[1], LinkLost):
                self._take(item)
