"""Znodes kept in memory as they are in ZooKeeper, by watches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kazoo.exceptions import ConnectionClosedError, KazooException, NoNodeError

from kalinka_jms.registry.zookeeper import Ensemble, State, unknown

log = logging.getLogger("kalinka.registry")


@dataclass(slots=True)
class _Node:
    reading: bool = False
    again: bool = False
    """Something happened while it was being read: the answer may be older than that."""


class Mirror:
    """Reads znodes and goes on reading them whenever they change, also those that do not exist yet.

    `on_read(path, data)` gets every answer (None: there is no such znode), one at a time, on kazoo's thread for
    answers; the same answer may come again. kazoo forgets its watches when the connection breaks, so everything is read
    afresh when it is back. A path that was dropped keeps its watch until that fires, and nothing happens then.
    """

    def __init__(self, client: Ensemble, on_read: Callable[[str, bytes | None], None]) -> None:
        self._client = client
        self._on_read = on_read
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._unlisten = client.listen(self._changed)

    def add(self, path: str) -> None:
        """Read the znode from now on. Never blocks."""
        with self._lock:
            if path in self._nodes:
                return
            self._nodes[path] = _Node()
        self._read(path, urgent=True)

    def drop(self, path: str) -> None:
        """Read it no more."""
        with self._lock:
            self._nodes.pop(path, None)

    def close(self) -> None:
        """Read nothing more."""
        self._unlisten()
        with self._lock:
            self._nodes.clear()

    def _read(self, path: str, urgent: bool = False) -> None:
        """Ask for it; if it is being asked for already, once more after the answer."""
        with self._lock:
            node = self._nodes.get(path)
            if node is None or node.reading:
                if node is not None:
                    node.again = True
                return
            node.reading, node.again = True, False
        self._get(path, urgent)

    def _get(self, path: str, urgent: bool = False) -> None:
        self._client.ask(lambda kazoo: kazoo.get_async(path, watch=self._fired), partial(self._got, path), urgent)

    def _got(self, path: str, value: Any, error: KazooException | None) -> None:
        if isinstance(error, NoNodeError):
            # a get that finds nothing leaves no watch: this one waits for the znode to be made
            self._client.ask(
                lambda kazoo: kazoo.exists_async(path, watch=self._fired), partial(self._looked, path), urgent=True
            )
        else:
            self._finish(path, value and value[0], error)

    def _looked(self, path: str, stat: Any, error: KazooException | None) -> None:
        if error is None and stat is not None:
            self._get(path, urgent=True)  # made in between
        else:
            self._finish(path, None, error)

    def _finish(self, path: str, data: bytes | None, error: KazooException | None) -> None:
        with self._lock:
            node = self._nodes.get(path)
            if node is None:
                return
            node.reading = False
            again = node.again or unknown(error)
        if error is None:
            self._on_read(path, data)
        elif not isinstance(error, ConnectionClosedError) and not unknown(error):
            log.error("cannot read %s: %r", path, error)
        if again:
            self._read(path)

    def _fired(self, event: Any) -> None:
        if event.path is not None:  # None: the connection broke; what follows that is in _changed
            self._read(event.path, urgent=True)

    def _changed(self, state: State) -> None:
        if state == "CONNECTED":
            with self._lock:
                paths = tuple(self._nodes)
            for path in paths:
                self._read(path)
