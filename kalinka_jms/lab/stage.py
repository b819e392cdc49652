"""Where a demo plays: a live table on a terminal, lines of text elsewhere."""

from __future__ import annotations

import sys
import time
from threading import Event, Thread
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kalinka_jms.lab.device import BACK_END
from kalinka_jms.lab.ledger import Ledger, Stream, Tally
from kalinka_jms.lab.report import COLUMNS, cells

PROGRESS = 5.0
"""Seconds between two lines of progress where there is no terminal."""

LIVE = {
    "stream": "",
    "sent": "sent",
    "received": "received",
    "lost": "under way",
    "duplicates": "duplicates",
    "p99": "p99",
}
"""The columns of the live table and their titles; it fits 80 characters."""


class Stage(Protocol):
    """Shows what happens."""

    def say(self, text: str) -> None:
        """Tell the next step."""

    def show(self, ledger: Ledger) -> None:
        """From now on show this ledger."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_stage() -> Stage:
    """A live table where standard output is a terminal, lines of text elsewhere."""
    return Screen() if sys.stdout.isatty() else Lines()


class _Clock:
    """Seconds since it was made, as people read them."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def stamp(self, text: str) -> str:
        return f"[{time.monotonic() - self._start:5.1f} s] {text}"


class Lines:
    """Each step as a line, and a line of totals every few seconds."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._ledger: Ledger | None = None
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def say(self, text: str) -> None:
        print(self._clock.stamp(text), flush=True)

    def show(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(PROGRESS):
            if self._ledger is not None:
                total = self._ledger.verdict().total
                self.say(f"  sent {total.sent}, received {total.received}, duplicates {total.duplicates}")


class Screen:
    """The steps so far, and under them the ledger as a live table."""

    def __init__(self, console: Console | None = None) -> None:
        self._clock = _Clock()
        self._ledger: Ledger | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def say(self, text: str) -> None:
        self._live.console.print(Text(self._clock.stamp(text)))

    def show(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _render(self) -> Group | Table:
        return Group() if self._ledger is None else table(self._ledger)


def table(ledger: Ledger) -> Table:
    """The ledger as it stands, by leg; what is under way has not arrived yet and is not called lost."""
    drawn = Table(box=box.SIMPLE)
    for name, title in LIVE.items():
        drawn.add_column(title, justify="left" if name == "stream" else "right", no_wrap=True)
    for name, tally in sorted(ledger.tallies(leg).items()):
        drawn.add_row(*_live(name, tally))
    drawn.add_section()
    drawn.add_row(*_live("total", ledger.tallies(lambda _: "total").get("total", Tally())), style="bold")
    return drawn


def _live(name: str, tally: Tally) -> list[str]:
    row = dict(zip(COLUMNS, cells(name, tally), strict=True))
    return [row[column] for column in LIVE]


def leg(stream: Stream) -> str:
    """Which way a stream goes, for people."""
    return " → ".join("Kafka" if name == BACK_END else "device" for name in (stream.source, stream.destination))
