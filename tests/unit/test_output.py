"""How commands show numbers, and that progress is for people only."""

from __future__ import annotations

import io
import sys
import threading

import pytest
from kalinka_cli import output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert output.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2 * 10**9, "2.0 GB"), (10**13, "10.0 TB")],
)
def test_sizes(count: int, text: str) -> None:
    assert output.size(count) == text


def test_a_table_has_columns_as_wide_as_needed(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("A", "LONG"), [("x", 1), ("wide", 22)])
    assert capsys.readouterr().out == "A     LONG\nx     1\nwide  22\n"


class Terminal(io.StringIO):
    """Standard error as a terminal is; it tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


def test_progress_is_shown_on_a_terminal_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    with output.progress() as shown:
        shown.tell("reading")
        assert terminal.written.wait(10)
    assert terminal.getvalue().startswith("\rreading")
    assert terminal.getvalue().endswith(f"\r{' ' * len('reading')}\r")


def test_progress_is_not_shown_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    with output.progress() as shown:
        shown.tell("reading")
    assert plain.getvalue() == ""
