"""Work that one thread does for others."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event
from typing import Any


class Work:
    """What the owner's thread shall do, in order; the owner calls `turn`."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def do(self, work: Callable[[], Any]) -> None:
        """Have something done; does not wait for it."""
        self._waiting.put(work)

    def call(self, work: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Have something done, and wait for what it returns. Raises TimeoutError."""
        result: list[Any] = []
        done = Event()

        def run() -> None:
            result.append(work())
            done.set()

        self.do(run)
        if not done.wait(timeout):
            raise TimeoutError(f"not done within {timeout:.0f} s: the thread is stuck, or has ended")
        return result[0]

    def turn(self) -> None:
        """Do what waits."""
        for _ in range(self._waiting.qsize()):
            self._waiting.get()()
