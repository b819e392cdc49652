"""How a run reads: a line for each scenario, a table, and a page of Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.memory import Growth
from tests.chaos.outcome import Outcome, Recovery
from tests.chaos.verdict import Count

COLUMNS = ("scenario", "up", "down", "lost", "dark", "reordered", "twice up/down", "up again", "down again", "verdict")


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    command: str
    setting: str
    outcomes: tuple[Outcome, ...]
    memory: tuple[Growth, ...]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Something was played, and nothing was found."""
        played = bool(self.outcomes) and all(outcome.good for outcome in self.outcomes)
        return played and all(growth.flat for growth in self.memory) and not self.faults


def row(outcome: Outcome) -> tuple[str, ...]:
    """The cells of one scenario."""
    up, down = (outcome.counts.get(leg, Count()) for leg in ("up", "down"))
    return (
        outcome.scenario.name,
        str(up.promised),
        str(down.promised),
        str(up.lost + down.lost),
        str(down.dark),
        str(up.reordered + down.reordered),
        f"{up.duplicates}/{down.duplicates}",
        _times(outcome.recoveries, "up"),
        _times(outcome.recoveries, "down"),
        "ok" if outcome.good else "FAILED",
    )


def text(report: Report) -> str:
    """The table for a terminal, with every fault under it."""
    rows = [COLUMNS, *map(row, report.outcomes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([report.setting, "", *lines, "", *map(str, report.memory), *_notes(report), *_faults(report)])


def markdown(report: Report) -> str:
    """The same as Markdown."""
    lines = [_line(COLUMNS), _line("---" for _ in COLUMNS), *(_line(row(outcome)) for outcome in report.outcomes)]
    memory = [f"- {growth}" for growth in report.memory]
    return "\n".join(
        [
            f"`{report.command}`",
            "",
            report.setting,
            "",
            *lines,
            "",
            *memory,
            *(f"- {note}" for note in _notes(report)),
            *_faults(report),
        ]
    )


def machine(load: Sequence[float]) -> str:
    """Where it ran, and how busy that was with other work: load averages of 1, 5 and 15 minutes at the end."""
    cores = os.cpu_count()
    return f"{cores} cores for everything, {platform.system()}, load average {', '.join(f'{one:.1f}' for one in load)}"


def _notes(report: Report) -> list[str]:
    """Scrapes balanced only where nothing was found."""
    return [] if any(fault.startswith("metrics") for fault in report.faults) else [*report.notes]


def _faults(report: Report) -> list[str]:
    lines = [f"- {outcome.scenario.name}: {fault}" for outcome in report.outcomes for fault in outcome.faults]
    return [*lines, *(f"- {fault}" for fault in report.faults)]


def _times(recoveries: Sequence[Recovery], direction: str) -> str:
    """The slowest of each bound: 2.1 s (< 3)."""
    told = [
        f"{'never' if one.seconds is None else f'{one.seconds:.1f} s'} (< {one.bound:.0f})"
        for one in recoveries
        if one.direction == direction
    ]
    return ", ".join(told) or "-"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
