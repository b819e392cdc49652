"""ZooKeeper in memory, as `kalinka_jms.registry.zookeeper.Client` shows it: znodes, watches, transactions, sessions.

Nothing is answered before `settle`: a test decides what happens in between. What is asked while a session is not
connected waits; `lose` answers what was asked with ConnectionLoss, half of it after carrying it out.
"""

from __future__ import annotations

import itertools
import posixpath
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kazoo.exceptions import (
    BadVersionError,
    ConnectionLoss,
    KazooException,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.zookeeper import Done, State

Watcher = Callable[[Any], None]
_Asked = tuple[Callable[[Any], Any], Done]


class Stat(NamedTuple):
    """As much of a znode's stat as Kalinka looks at."""

    version: int


class Event(NamedTuple):
    """What a watch is told."""

    path: str | None


@dataclass(slots=True)
class _Znode:
    data: bytes
    version: int = 0
    owner: FakeClient | None = None


@dataclass(slots=True)
class FakeZooKeeper:
    """The servers. Answers come on the thread that calls `settle`; asking may be done on any."""

    znodes: dict[str, _Znode] = field(default_factory=dict)
    clients: list[FakeClient] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def client(self) -> FakeClient:
        """A new session, connected."""
        self.clients.append(FakeClient(self))
        return self.clients[-1]

    def settle(self) -> None:
        """Answer everything that is asked, and what is asked because of it."""
        while any(client.answer() for client in self.clients):
            pass

    def get(self, path: str) -> tuple[bytes, Stat]:
        znode = self.find(path)
        return znode.data, Stat(znode.version)

    def find(self, path: str, version: int = -1) -> _Znode:
        if path not in self.znodes:
            raise NoNodeError
        if version not in (-1, self.znodes[path].version):
            raise BadVersionError
        return self.znodes[path]

    def create(self, path: str, data: bytes = b"", owner: FakeClient | None = None) -> str:
        if path in self.znodes:
            raise NodeExistsError
        if posixpath.dirname(path) not in {*self.znodes, "/"}:
            raise NoNodeError
        self.znodes[path] = _Znode(data, owner=owner)
        self._changed(path)
        return path

    def set(self, path: str, data: bytes, version: int = -1) -> Stat:
        znode = self.find(path, version)
        znode.data, znode.version = data, znode.version + 1
        self._changed(path)
        return Stat(znode.version)

    def delete(self, path: str, version: int = -1) -> bool:
        self.find(path, version)
        del self.znodes[path]
        self._changed(path)
        return True

    def children(self, path: str) -> list[str]:
        self.find(path)
        return [posixpath.basename(name) for name in self.znodes if posixpath.dirname(name) == path]

    def ensure(self, path: str) -> bool:
        for end in range(1, path.count("/") + 1):
            self.znodes.setdefault("/".join(path.split("/")[: end + 1]), _Znode(b""))
        return True

    def _changed(self, path: str) -> None:
        for client in self.clients:
            client.fire(path)


@dataclass(slots=True)
class _Result:
    """Stands in for kazoo's AsyncResult: what is to be done when the request reaches the server."""

    action: Callable[[], Any]
    path: str = ""
    watch: Watcher | None = None


class FakeClient:
    """One session with a `FakeZooKeeper`; see `kalinka_jms.registry.zookeeper.Client`, which it stands in for."""

    def __init__(self, server: FakeZooKeeper) -> None:
        self.server = server
        self.kazoo = _Kazoo(self)
        self.connected = True
        self._asked: list[_Asked] = []
        self._urgent: list[_Asked] = []
        self._events: list[Callable[[], None]] = []
        self._watches: dict[str, set[Watcher]] = {}
        self._listeners: list[Callable[[State], None]] = []

    def listen(self, listener: Callable[[State], None]) -> Callable[[], None]:
        """As `Client.listen`."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def ask(self, request: Callable[[Any], Any], done: Done, urgent: bool = False) -> None:
        """As `Client.ask`; answered by `FakeZooKeeper.settle`."""
        with self.server.lock:
            (self._urgent if urgent else self._asked).append((request, done))

    def gather(
        self,
        requests: Sequence[Callable[[Any], Any]],
        timeout: float = 0.0,
        tolerated: type[KazooException] | tuple[()] = (),
    ) -> list[Any]:
        """As `Client.gather`; answered at once."""
        if not self.connected:
            raise RegistryError(f"ZooKeeper did not answer within {timeout:g} s")
        with self.server.lock:
            answers = [self._carry_out(request) for request in requests]
        for _, error in answers:
            if error is not None and not isinstance(error, tolerated):
                raise RegistryError(f"ZooKeeper refused: {error!r}")
        return [value for value, _ in answers]

    def answer(self) -> bool:
        """Answer what is asked now, in order; whether there was anything."""
        with self.server.lock:
            asked = self._take() if self.connected else []
            events, self._events = self._events, []
            for request, done in asked:
                done(*self._carry_out(request))
            for event in events:
                event()
        return bool(asked or events)

    def lose(self) -> None:
        """The connection breaks: watches are forgotten, and nobody knows what became of what was asked."""
        asked = self._take()
        self._watches.clear()
        self._tell("SUSPENDED", connected=False)
        for (request, done), carried_out in zip(asked, itertools.cycle((True, False)), strict=False):
            if carried_out:
                self._carry_out(request)
            done(None, ConnectionLoss())

    def reconnect(self) -> None:
        """The connection is back, in the same session."""
        self._tell("CONNECTED", connected=True)

    def expire(self) -> None:
        """The session is lost, and what it held; a new one begins with `reconnect`."""
        asked = self._take()
        self._watches.clear()
        self._tell("LOST", connected=False)
        for path in [path for path, znode in self.server.znodes.items() if znode.owner is self]:
            self.server.delete(path)
        for _, done in asked:
            done(None, SessionExpiredError())

    def fire(self, path: str) -> None:
        """A znode changed."""
        for watch in self._watches.pop(path, ()):
            self._events.append(lambda watch=watch: watch(Event(path)))  # type: ignore[misc]

    def _take(self) -> list[_Asked]:
        asked, self._urgent, self._asked = [*self._urgent, *self._asked], [], []
        return asked

    def _tell(self, state: State, *, connected: bool) -> None:
        self.connected = connected
        for listener in self._listeners:
            self._events.append(lambda listener=listener: listener(state))  # type: ignore[misc]

    def _carry_out(self, request: Callable[[Any], Any]) -> tuple[Any, KazooException | None]:
        result = request(self.kazoo)
        value, error = None, None
        try:
            value = result.action()
        except KazooException as raised:
            error = raised
        if result.watch is not None and (error is None or result.path.startswith("?")):
            self._watches.setdefault(result.path.removeprefix("?"), set()).add(result.watch)
        return (None, None) if result.path.startswith("?") and error else (value, error)


class _Kazoo:
    """The requests of kazoo that Kalinka makes."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._server = client.server

    def get_async(self, path: str, watch: Watcher | None = None) -> _Result:
        return _Result(lambda: self._server.get(path), path, watch)

    def exists_async(self, path: str, watch: Watcher | None = None) -> _Result:
        return _Result(lambda: self._server.get(path)[1], f"?{path}", watch)  # ?: the watch stays without a znode

    def create_async(self, path: str, data: bytes = b"", *, ephemeral: bool = False, makepath: bool = False) -> _Result:
        owner, parent = self._client if ephemeral else None, posixpath.dirname(path)
        return _Result(lambda: (makepath and self._server.ensure(parent), self._server.create(path, data, owner))[1])

    def delete_async(self, path: str, version: int = -1) -> _Result:
        return _Result(lambda: self._server.delete(path, version))

    def get_children_async(self, path: str) -> _Result:
        return _Result(lambda: self._server.children(path))

    def ensure_path_async(self, path: str) -> _Result:
        return _Result(lambda: self._server.ensure(path))

    def transaction(self) -> _Transaction:
        return _Transaction(self._server)


class _Transaction:
    """All of it happens, or nothing; the results tell which."""

    def __init__(self, server: FakeZooKeeper) -> None:
        self._server = server
        self._steps: list[tuple[Callable[[], Any], Callable[[], Any]]] = []  # what would fail, and what it does

    def check(self, path: str, version: int) -> None:
        self._steps.append((lambda: self._server.find(path, version), lambda: True))

    def create(self, path: str, data: bytes) -> None:
        self._steps.append((lambda: self._free(path), lambda: self._server.create(path, data)))

    def set_data(self, path: str, data: bytes, version: int = -1) -> None:
        self._steps.append((lambda: self._server.find(path, version), lambda: self._server.set(path, data, version)))

    def delete(self, path: str, version: int = -1) -> None:
        self._steps.append((lambda: self._server.find(path, version), lambda: self._server.delete(path, version)))

    def commit_async(self) -> _Result:
        return _Result(self._commit)

    def _free(self, path: str) -> None:
        if path in self._server.znodes:
            raise NodeExistsError
        self._server.find(posixpath.dirname(path))

    def _commit(self) -> list[Any]:
        for number, (test, _) in enumerate(self._steps):
            try:
                test()
            except KazooException as error:
                after = [RuntimeInconsistency() for _ in self._steps[number + 1 :]]
                return [*(RolledBackError() for _ in range(number)), error, *after]
        return [carry_out() for _, carry_out in self._steps]
