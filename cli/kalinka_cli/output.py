"""What commands share: tables, JSON, numbers as people read them, and progress on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer

PATIENCE = 1.0
"""Seconds of work after which progress is shown."""

BETWEEN = 0.1
"""Seconds between two updates of it."""


def quiet() -> None:
    """Libraries say nothing by themselves: a command tells what went wrong in its own words."""
    logging.getLogger().addHandler(logging.NullHandler())


def show_json(document: object) -> None:
    """One JSON document, for programs."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def show_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need to be; nothing but the titles where there are no rows."""
    lines = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def age(seconds: float) -> str:
    """How long ago: `12 s`, `5 min`, `3 h`, `9 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 kB`, `20.0 MB`."""
    if count < 1000:
        return f"{count} B"
    for unit, step in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * step:
            return f"{count / step:.1f} {unit}"
    return f"{count / 1e12:.1f} TB"


class Progress:
    """One line on standard error, written over and over; nothing where that is no terminal, or all goes quickly."""

    def __init__(self) -> None:
        self._text = ""
        self._width = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if sys.stderr.isatty():
            self._thread.start()

    def tell(self, text: str) -> None:
        """What is being done now."""
        self._text = text

    def clear(self) -> None:
        """Take the line away, for other output; it comes back with the next `tell`."""
        with self._lock:
            self._text = ""
            self._write("")

    def end(self) -> None:
        """Show nothing any more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.clear()

    def _run(self) -> None:
        wait = PATIENCE
        while not self._over.wait(wait):
            wait = BETWEEN
            with self._lock:
                self._write(self._text)

    def _write(self, text: str) -> None:
        if text or self._width:
            sys.stderr.write(f"\r{text.ljust(self._width)}" + ("" if text else "\r"))
            sys.stderr.flush()
        self._width = len(text)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress that is gone when the work is done."""
    shown = Progress()
    try:
        yield shown
    finally:
        shown.end()
