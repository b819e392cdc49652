"""`kalinka registry`: where devices listen, from the brokers' advisories into ZooKeeper.

Every instance has a watcher for every broker; for each broker one of them is elected, has a link to it and writes.
"""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from functools import partial

from kalinka_jms.config import Broker, Settings
from kalinka_jms.errors import RegistryError
from kalinka_jms.registry import Client, Election, Writer
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.post import LinkMaker, Post
from kalinka_jms.registry.presence import Presence
from kalinka_jms.registry.term import Term
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.registry.zookeeper import State
from kalinka_jms.routes import Downlinks
from kalinka_jms.stomp.link import Link

log = logging.getLogger("kalinka.registry")

PAUSE = 1.0
"""Seconds before a watcher that was deposed stands for election again."""


class Watch:
    """The watcher of one broker in this instance: a thread that is elected, or waits to be."""

    def __init__(self, broker: Broker, settings: Settings, client: Client, link: LinkMaker = Link) -> None:
        self.broker = broker
        self._client = client
        self._root = settings.zookeeper.root
        self._stopping = threading.Event()
        presence = Presence(Downlinks(settings.routes.down, (broker.group,)))
        registry = settings.registry
        self._post = Post(broker, presence, registry.grace, registry.resync, link, self._stopping)
        self._election = Election(client, Znodes(self._root).election(broker.name), _identity())
        self._term: Term | None = None
        self._told = ""
        self._written = self._before = 0
        self._thread = threading.Thread(target=self._run, name=f"watch-{broker.name}", daemon=True)

    @property
    def elected(self) -> bool:
        """Whether this instance is the broker's watcher; others stand by."""
        return self._term is not None

    @property
    def term(self) -> Term | None:
        """The term that goes on; None where this instance stands by."""
        return self._term

    @property
    def written(self) -> int:
        """Changes written to the registry, in all terms."""
        term = self._term
        return self._written if term is None else self._before + term.writer.written

    @property
    def turned(self) -> float | None:
        """When its thread turned last (seconds, monotonic); None where it only stands by."""
        term = self._term
        return term.pulse.turned if term is not None else None

    @property
    def settled(self) -> bool:
        """Whether this instance watches the broker now, and what the registry says of it is true."""
        term = self._term
        return term is not None and term.settled

    @property
    def devices(self) -> int:
        """Devices that listen on the broker; 0 where another instance watches it."""
        term = self._term
        return len(term.roster) if term else 0

    @property
    def pending(self) -> int:
        """Devices whose change is not in the registry yet."""
        term = self._term
        return term.pending if term else 0

    @property
    def eavesdroppers(self) -> tuple[Filter, ...]:
        """Subscriptions on the broker that take devices' topics and name nobody: they hide absence from it."""
        term = self._term
        return term.roster.eavesdroppers if term else ()

    def start(self) -> None:
        """Stand for election."""
        self._thread.start()

    def stop(self) -> None:
        """Begin to leave: write what has come, then let the next watcher take over at once. `join` waits for it."""
        self._stopping.set()
        self._election.end()
        if (term := self._term) is not None:
            term.wake()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has left, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                fence = self._election.win()
                if fence is not None:
                    self._serve(fence)
            except RegistryError as error:
                log.warning("not watching", extra={"broker": self.broker.name, "reason": str(error)})
                self._stopping.wait(PAUSE)
            finally:
                self._election.resign()

    def _serve(self, fence: str) -> None:
        """One term. It ends with the session: then the office is somebody else's."""
        term = Term(self._post, partial(Writer, self._client, self._root, self.broker.name, fence), self._told)

        def changed(state: State) -> None:
            if state == "LOST":
                term.depose(RegistryError("the ZooKeeper session is lost"))

        unlisten = self._client.listen(changed)
        self._before = self._written
        self._term = term
        try:
            term.run()
        finally:
            self._written = self._before + term.writer.written  # first this: the number never falls
            self._term, self._told = None, term.told
            unlisten()


def _identity() -> str:
    """What others can read of a candidate: where it runs."""
    return f"{socket.gethostname()}/{uuid.uuid4().hex[:8]}"
