"""What the servers printed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_STEP = 0.3
"""Seconds between two looks for new lines."""


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a file; none where it does not exist."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return text.splitlines()[-lines:] if lines > 0 else []


def messages(log: Path, lines: int = 12) -> str:
    """The last lines without Java's stack frames: what a human needs to see why a server ended."""
    told = [line for line in tail(log, 400) if not line.startswith(("\tat ", "\t..."))]
    return "\n".join(told[-lines:]) or f"it printed nothing to {log}"


def follow(logs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """New lines of the files for ever, each with its file; one that begins anew is read from its start."""
    places = {log: log.stat().st_size if log.exists() else 0 for log in logs}
    while True:
        for log in logs:
            for line in _new(log, places):
                yield log, line
        time.sleep(_STEP)


def _new(log: Path, places: dict[Path, int]) -> list[str]:
    size = log.stat().st_size if log.exists() else 0
    if size < places[log]:
        places[log] = 0
    if size == places[log]:
        return []
    with log.open("rb") as file:
        file.seek(places[log])
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]  # the rest of a line that is being written comes with the next look
    places[log] += len(whole)
    return whole.decode(errors="replace").splitlines()
