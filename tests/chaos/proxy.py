"""A small TCP proxy for what no signal can do to a server: black holes, half-open connections, slow links.

One thread and one selector. Bytes are never kept beyond one buffer a direction: what cannot be written is not read, so
the pressure of a slow end reaches the other one.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

CHUNK = 65536
TICK = 0.01


@dataclass(slots=True, eq=False)
class _Half:
    """One direction: bytes from `source` on their way to `target`."""

    source: socket.socket
    target: socket.socket
    held: bytes = b""
    ended: bool = False
    due: float = 0.0


@dataclass(slots=True, eq=False)
class Connection:
    """One client's connection through the proxy; `halves`: client → server, server → client."""

    client: socket.socket
    server: socket.socket
    peer: tuple[str, int]
    halves: tuple[_Half, _Half] = field(init=False)
    frozen: bool = False

    def __post_init__(self) -> None:
        self.halves = (_Half(self.client, self.server), _Half(self.server, self.client))


class Proxy:
    """Forwards what comes to `address` to `upstream`, as long as nothing is broken."""

    def __init__(self, upstream: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._lock = Lock()
        self._connections: list[Connection] = []
        self._frozen = False
        self._delay = 0.0
        self._over = Event()
        self._thread = Thread(target=self._run, name=f"proxy-{upstream[1]}", daemon=True)
        self._thread.start()

    # -- from other threads

    def freeze(self, peer: tuple[str, int] | None = None) -> None:
        """Black hole: nothing passes, nothing is closed, new connections are taken and lead nowhere.

        With `peer` only the connection of that client: for the server it is half open from now on.
        """
        with self._lock:
            if peer is None:
                self._frozen = True
            for connection in self._connections:
                connection.frozen = connection.frozen or peer in (None, connection.peer)

    def thaw(self) -> None:
        """What is there passes again, in order; nothing was lost on the way."""
        with self._lock:
            self._frozen = False
            for connection in self._connections:
                connection.frozen = False

    def slow(self, seconds: float) -> None:
        """Every chunk of bytes waits that long, in each direction; 0 ends it."""
        with self._lock:
            self._delay = seconds

    def cut(self) -> None:
        """End every connection that there is now."""
        with self._lock:
            for connection in self._connections:
                connection.frozen = False
                for one in (connection.client, connection.server):
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    @property
    def open(self) -> int:
        """Connections that there are now."""
        with self._lock:
            return len(self._connections)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for connection in self._connections:
            _close(connection)
        self._listener.close()

    # -- the thread

    def _run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                self._accept()
                for connection in [one for one in self._connections if not one.frozen]:
                    self._pump(connection.halves[0])
                    self._pump(connection.halves[1])
                for connection in [one for one in self._connections if _ended(one)]:
                    _close(connection)
                    self._connections.remove(connection)
                wanted, patience = self._wanted(time.monotonic())
            _wait(wanted, patience)

    def _wanted(self, now: float) -> tuple[dict[socket.socket, int], float]:
        """What each socket is waited for, and how long."""
        wanted = {self._listener: selectors.EVENT_READ}
        patience = TICK
        for connection in self._connections:
            for half in connection.halves if not connection.frozen else ():
                if half.held and now < half.due:
                    patience = min(patience, half.due - now)
                elif half.held:
                    wanted[half.target] = wanted.get(half.target, 0) | selectors.EVENT_WRITE
                elif not half.ended:
                    wanted[half.source] = wanted.get(half.source, 0) | selectors.EVENT_READ
        return wanted, patience

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                client, peer = self._listener.accept()
                try:
                    server = socket.create_connection(self.upstream, 1.0)
                except OSError:
                    client.close()
                    continue
                for one in (client, server):
                    one.setblocking(False)
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections.append(Connection(client, server, peer[:2], frozen=self._frozen))

    def _pump(self, half: _Half) -> None:
        """Move what can be moved."""
        now = time.monotonic()
        if not half.held and not half.ended:
            self._fill(half, now)
        if half.held and now >= half.due:
            try:
                half.held = half.held[half.target.send(half.held) :]
            except BlockingIOError:
                pass
            except OSError:
                half.held, half.ended = b"", True

    def _fill(self, half: _Half, now: float) -> None:
        try:
            half.held = half.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            half.held = b""
        half.ended = not half.held
        half.due = now + self._delay


def _wait(wanted: dict[socket.socket, int], patience: float) -> None:
    with selectors.DefaultSelector() as selector:
        for one, events in wanted.items():
            selector.register(one, events)
        selector.select(patience)


def _ended(connection: Connection) -> bool:
    return not connection.frozen and any(half.ended and not half.held for half in connection.halves)


def _close(connection: Connection) -> None:
    for one in (connection.client, connection.server):
        with suppress(OSError):
            one.close()
