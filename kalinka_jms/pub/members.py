"""Which instance of `kalinka pub` should be active on which broker: rendezvous hashing over those that stand by there.

Only load depends on it, never exactness: whoever does not know stays where it is.
"""

from __future__ import annotations

import hashlib
import logging
import posixpath
import threading
import uuid
from collections.abc import Callable, Sequence

from kazoo.exceptions import NodeExistsError, NoNodeError

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.znodes import escape
from kalinka_jms.registry.zookeeper import Client

log = logging.getLogger("kalinka.pub")

PERIOD = 2.0
"""Seconds between looks, and for ZooKeeper to answer. A change counts when two looks have shown it."""


class Members:
    """Says in ZooKeeper where this instance stands by, and reads where the others do.

    Znodes: `<root's parent>/pub/<broker>/<instance>`, ephemeral.
    """

    def __init__(self, client: Client, root: str, links: Callable[[], dict[str, bool]]) -> None:
        """`links`: broker → whether this instance is subscribed there."""
        self.instance = uuid.uuid4().hex
        self._client = client
        self._parent = f"{posixpath.dirname(root)}/pub"
        self._links = links
        self._winners: dict[str, str] = {}
        self._settled: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="members", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def preferred(self, broker: str) -> bool:
        """False when another instance stands by at that broker and should be the active one."""
        return self._settled.get(broker, self.instance) == self.instance

    def stop(self) -> None:
        """Look no more; `join` waits for the end of it. The znodes go with the session."""
        self._stop.set()

    def look(self) -> None:
        """Say and read once. What is not known now is not believed from an earlier look either."""
        try:
            winners = self._winners_now() if self._client.connected else {}
        except RegistryError as error:
            log.debug("where others stand by is not known: %s", error)
            winners = {}
        self._settled = {name: member for name, member in winners.items() if self._winners.get(name) == member}
        self._winners = winners

    def _run(self) -> None:
        try:
            while not self._stop.wait(PERIOD):
                self.look()
        finally:  # were it to end by itself, an instance that is gone could be preferred for ever
            self._settled = {}

    def _winners_now(self) -> dict[str, str]:
        links = self._links()
        lists = self._client.gather([self._children(name) for name in links], PERIOD, NoNodeError)
        found = {name: list(children or ()) for name, children in zip(links, lists, strict=True)}
        missing = [name for name, up in links.items() if up and self.instance not in found[name]]
        stale = [name for name, up in links.items() if not up and self.instance in found[name]]
        self._client.gather([self._create(name) for name in missing], PERIOD, NodeExistsError)
        self._client.gather([self._delete(name) for name in stale], PERIOD, NoNodeError)
        return {name: winner(name, members) for name, members in found.items() if self.instance in members}

    def _path(self, broker: str) -> str:
        return f"{self._parent}/{escape(broker)}"

    def _children(self, broker: str) -> Callable[..., object]:
        return lambda kazoo: kazoo.get_children_async(self._path(broker))

    def _create(self, broker: str) -> Callable[..., object]:
        path = f"{self._path(broker)}/{self.instance}"
        return lambda kazoo: kazoo.create_async(path, b"", ephemeral=True, makepath=True)

    def _delete(self, broker: str) -> Callable[..., object]:
        return lambda kazoo: kazoo.delete_async(f"{self._path(broker)}/{self.instance}")


def winner(broker: str, members: Sequence[str]) -> str:
    """The member that all agree on for this broker: the one with the highest hash of both names."""
    return max(members, key=lambda member: hashlib.blake2b(f"{broker}/{member}".encode(), digest_size=8).digest())
