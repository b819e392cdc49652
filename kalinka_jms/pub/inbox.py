"""What a link's reading thread has received, on its way to the thread that owns the session."""

from __future__ import annotations

import contextlib
import queue
import threading

from kalinka_jms.errors import LinkLost
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link


class Inbox:
    """Batches of messages, bounded in bytes: those count from `put` until they are released.

    Beyond the bound `put` holds the link's reading thread back, and so the broker; the link is kept alive meanwhile.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._room = threading.Condition()
        self._batches: queue.SimpleQueue[list[Frame] | LinkLost] = queue.SimpleQueue()
        self._link: Link | None = None
        self._closed = False

    def attach(self, link: Link) -> None:
        """The link to keep alive while it is held back."""
        self._link = link

    def put(self, batch: list[Frame] | LinkLost) -> None:
        """Sink of the link."""
        if isinstance(batch, list) and not self._admit(batch):
            return
        self._batches.put(batch)

    def get(self, timeout: float) -> list[Frame]:
        """Return the next batch, empty if none came in `timeout` seconds. Raises LinkLost at the end."""
        try:
            batch = self._batches.get(timeout=timeout)
        except queue.Empty:
            return []
        if isinstance(batch, LinkLost):
            raise batch
        return batch

    @property
    def bytes(self) -> int:
        """Bytes that count now."""
        return self._bytes

    def release(self, size: int) -> None:
        """`size` bytes are done with."""
        with self._room:
            self._bytes -= size
            self._room.notify()

    def close(self) -> None:
        """From now on messages are discarded as they come, and nobody is held back; the end of the link still comes."""
        with self._room:
            self._closed = True
            self._room.notify()

    def clear(self) -> None:
        """Let go of what nobody takes any more. It refers to its link, which refers to it: gc would find that late."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._batches.get_nowait()

    def _admit(self, batch: list[Frame]) -> bool:
        size = sum([len(frame.head) + len(frame.body) for frame in batch])
        with self._room:
            while self._bytes >= self._max_bytes and not self._closed:
                self._breathe()
            self._bytes += size
            return not self._closed

    def _breathe(self) -> None:
        """Wait for room, no longer than a heart-beat: the broker's cannot be read meanwhile."""
        if self._link is None:
            self._room.wait()
        else:
            self._room.wait(self._link.broker.heartbeat)
            self._link.heard()
