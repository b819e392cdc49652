"""One watcher a broker: the election, and the fence that keeps a watcher from writing after it."""

from __future__ import annotations

import threading
from typing import Any

from kazoo.exceptions import CancelledError, KazooException
from kazoo.recipe.lock import Lock

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.zookeeper import Client, unknown

RESIGN = 5.0
"""Seconds that ZooKeeper has to take a resignation; it takes it later too."""


class Election:
    """A place in the queue for one office. Those that wait take over in the order in which they came."""

    def __init__(self, client: Client, path: str, identity: str = "") -> None:
        """`identity` is what others can read of a candidate in the queue."""
        self._client = client
        self._path = path
        self._identity = identity
        self._lock = threading.Lock()
        self._place: Any = None
        self._ended = False
        self._left = threading.Event()

    def win(self) -> str | None:
        """Wait until elected; the znode that exists as long as that lasts, or None after `end`.

        Raises RegistryError when ZooKeeper refuses, or the process left it.
        """
        with self._lock:
            if self._ended:
                return None
            # a new one each time: kazoo's lock goes on believing that it holds what a lost session took away
            place = self._place = Lock(self._client.kazoo, self._path, self._identity)
        try:
            place.acquire()
        except CancelledError:
            return None
        except KazooException as error:
            raise RegistryError(f"no election at {self._path}: {error!r}") from error
        return f"{self._path}/{place.node}"

    def resign(self) -> None:
        """Leave the office; the next takes over at once. While ZooKeeper is away, as soon as it is back."""
        with self._lock:
            place, self._place = self._place, None
        if place is None or not place.is_acquired:
            return
        self._left = threading.Event()
        self._delete(f"{self._path}/{place.node}")
        if self._client.connected:
            self._left.wait(RESIGN)

    def _delete(self, path: str) -> None:
        """Not by kazoo's `release`, which waits as long as ZooKeeper is away: our next candidacy would stand behind
        the place that we hold ourselves."""

        def done(_: Any, error: KazooException | None) -> None:
            if unknown(error):
                self._delete(path)
            else:
                self._left.set()

        self._client.ask(lambda kazoo: kazoo.delete_async(path), done, urgent=True)

    def end(self) -> None:
        """Stop waiting in `win`, now and for ever."""
        with self._lock:
            self._ended = True
            if self._place is not None:
                self._place.cancel()
