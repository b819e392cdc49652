"""Threads that work for a pipeline: none of them ends unnoticed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """A thread ended that should not have."""

    thread: str
    error: BaseException


def worker(name: str, run: Callable[[], None], post: Callable[[Failed], None]) -> threading.Thread:
    """Return a thread, not started, that carries out `run`; an exception that ends it is posted."""

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            post(Failed(name, error))

    return threading.Thread(target=guarded, name=name, daemon=True)
