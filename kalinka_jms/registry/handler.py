"""How kazoo waits for its sockets."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from kazoo.handlers.threading import SequentialThreadingHandler


class Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's own, with one system call for a wait: its `select` makes, fills and closes an epoll each time, and
    waits four times a request: a third of what a request costs is in that (see docs/speed.md)."""

    def select(
        self,
        rlist: Sequence[socket.socket],
        wlist: Sequence[socket.socket],
        _xlist: Sequence[socket.socket],
        timeout: float | None = None,
    ) -> tuple[list[socket.socket], list[socket.socket], list[socket.socket]]:
        """As `select.select`, for any number of open files. One that is broken counts as ready: who uses it learns
        why. `_xlist` is not looked at, as in kazoo. Raises ValueError where one is closed."""
        poll = select.poll()
        wanted = {one.fileno(): select.POLLIN for one in rlist}
        for one in wlist:
            wanted[one.fileno()] = wanted.get(one.fileno(), 0) | select.POLLOUT
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        ready = dict(poll.poll(None if timeout is None else max(timeout, 0) * 1000))
        return (
            [one for one in rlist if ready.get(one.fileno(), 0) & ~select.POLLOUT],
            [one for one in wlist if ready.get(one.fileno(), 0) & ~select.POLLIN],
            [],
        )
