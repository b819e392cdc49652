"""The lab's directory: one command at a time in it, the layout of what is up, and what may be deleted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kalinka_jms.errors import LabError
from kalinka_jms.lab.layout import PROFILES, Layout, from_json

_LAYOUT = "lab.json"
CONFIG = "kalinka.toml"
_OURS = (*PROFILES, "log", "demo", CONFIG, _LAYOUT)  # all that is ever deleted: the directory may be anyone's


def saved_layout(state: Path) -> Layout | None:
    """The layout of the lab that was brought up in that directory and not yet down."""
    try:
        return from_json(state, json.loads((state / _LAYOUT).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(layout: Layout, config: str) -> None:
    """Remember the layout, and write the configuration for it."""
    (layout.state / _LAYOUT).write_text(json.dumps(layout.to_json()))
    (layout.state / CONFIG).write_text(config)


def forget(state: Path) -> None:
    """The lab is down: the next one may have another layout."""
    (state / _LAYOUT).unlink(missing_ok=True)


def wipe(state: Path) -> None:
    """Delete everything that a lab made; the directory too if nothing else is in it. Raises OSError."""
    for name in _OURS:
        path = state / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        state.rmdir()


@contextmanager
def locked(state: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One command at a time; raises LabError where the directory cannot be made or written.

    The lock is on the directory itself: it ends with its holder and leaves no file.
    """
    handle = _lock(state, say)
    try:
        yield
    except OSError as error:
        raise LabError(f"cannot work in {state}: {error}") from error
    finally:
        os.close(handle)


def _lock(state: Path, say: Callable[[str], None]) -> int:
    while True:
        try:
            state.mkdir(parents=True, exist_ok=True)
            handle = os.open(state, os.O_RDONLY)
        except OSError as error:
            raise LabError(f"cannot use {state}: {error.strerror}; name another with --state") from None
        _take(handle, say)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), state.stat()):
                return handle
        os.close(handle)  # wiped by the one that we waited for: what we hold is no longer there


def _take(handle: int, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another command works on this lab; waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
