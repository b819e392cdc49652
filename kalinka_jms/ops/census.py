"""Every device of the registry: read once, or followed."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from typing import Any

from kazoo.exceptions import NoNodeError

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.owners import Owners, is_down
from kalinka_jms.registry.znodes import Znodes, unescape
from kalinka_jms.registry.zookeeper import Client

BATCH = 500
"""Znodes that are read at once."""

LOOK = 1.0
"""Seconds between looks for devices that are new."""

Tell = Callable[[str], None]


class Census:
    """Reads the registry. Everything raises RegistryError when ZooKeeper does not answer."""

    def __init__(self, client: Client, root: str) -> None:
        self._client = client
        self._root = root
        self._znodes = Znodes(root)

    def names(self, match: str = "*") -> list[str]:
        """The devices whose name the glob takes, sorted. Empty where there is no registry yet."""
        shards = [partial(_children, path) for path in self._znodes.shards]
        lists = self._client.gather(shards, tolerated=NoNodeError)
        names = (unescape(name) for names in lists for name in names or ())
        return sorted(name for name in names if fnmatchcase(name, match))

    def entries(self, names: Sequence[str], tell: Tell = lambda _: None) -> Iterator[tuple[str, Entry]]:
        """Where each of these devices listens, without those that listen nowhere (any more)."""
        rest, read = iter(names), 0
        while batch := list(islice(rest, BATCH)):
            tell(f"{read} of {len(names)} devices read")
            paths = [partial(_data, self._znodes.device(name)) for name in batch]
            answers = self._client.gather(paths, tolerated=NoNodeError)
            for name, answer in zip(batch, answers, strict=True):
                if answer is not None and (entry := _entry(answer[0])):
                    yield name, entry
            read += len(batch)

    def down(self, brokers: Sequence[str]) -> frozenset[str]:
        """Those of the brokers that do not count, as their watchers last saw them."""
        paths = [partial(_data, self._znodes.broker(name)) for name in brokers]
        answers = self._client.gather(paths, tolerated=NoNodeError)
        pairs = zip(brokers, answers, strict=True)
        return frozenset(name for name, answer in pairs if answer is not None and is_down(answer[0]))

    def follow(self, match: str, known: dict[str, Entry]) -> Iterator[tuple[str, Entry | None]]:
        """Every change from now on, for ever: a device, and where it counts as listening (None: nowhere).

        `known` is what was told already. While ZooKeeper is away nothing is told; then all that changed meanwhile.
        """
        changes: queue.SimpleQueue[tuple[str, Entry | None]] = queue.SimpleQueue()
        owners = Owners(self._client, self._root, lambda *change: changes.put(change))
        told: dict[str, Entry | None] = dict(known)
        watched = set(known)
        try:
            for device in known:
                owners.pin(device)
            while True:
                if self._client.connected:
                    self._watch(owners, match, watched)
                for device, entry in _due(changes):
                    if entry is None:
                        owners.unpin(device)
                        watched.discard(device)
                    if entry != told.get(device):
                        yield device, entry
                    told[device] = entry
        finally:
            owners.close()

    def _watch(self, owners: Owners, match: str, watched: set[str]) -> None:
        """Watch the devices that are new; those that went tell so themselves."""
        try:
            names = self.names(match)
        except RegistryError:
            return  # away: looked again soon
        for name in names:
            if name not in watched:
                watched.add(name)
                owners.pin(name)


def _due(changes: queue.SimpleQueue[tuple[str, Entry | None]]) -> Iterator[tuple[str, Entry | None]]:
    """What comes until it is time to look for new devices."""
    deadline = time.monotonic() + LOOK
    while (left := deadline - time.monotonic()) > 0:
        try:
            yield changes.get(timeout=left)
        except queue.Empty:
            return


def _children(path: str, kazoo: Any) -> Any:
    return kazoo.get_children_async(path)


def _data(path: str, kazoo: Any) -> Any:
    return kazoo.get_async(path)


def _entry(data: bytes) -> Entry | None:
    try:
        return Entry.decode(data)
    except RegistryError:
        return None  # counts as absent everywhere
