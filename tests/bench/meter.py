"""What a run took: messages a second, and CPU a message as the operating system counts it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 180.0
"""Seconds a run may take."""


@dataclass(frozen=True, slots=True)
class Run:
    """One counted run."""

    messages: int
    seconds: float
    cpu: float
    """Seconds of CPU of the measured process, user and system."""

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cost(self) -> float:
        """Microseconds of CPU a message."""
        return self.cpu / self.messages * 1e6


def cpu_of(pid: int) -> float:
    """Seconds of CPU a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, count: Callable[[], int], messages: int) -> Run:
    """Measure process `pid` from the first message that `count` shows to the last. Raises TimeoutError."""
    start = _reach(count, 1)
    began, cpu, before = time.perf_counter(), cpu_of(pid), start
    got = _reach(count, messages)
    if got != messages:
        raise AssertionError(f"{got} arrived of {messages}")
    return Run(messages - before, time.perf_counter() - began, cpu_of(pid) - cpu)


def _reach(count: Callable[[], int], target: int) -> int:
    deadline = time.monotonic() + DEADLINE
    while (got := count()) < target:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{got} of {target} after {DEADLINE:.0f} s")
        time.sleep(0.01)
    return got


def row(name: str, runs: Sequence[Run]) -> str:
    """A row of Markdown: median (range)."""
    return f"| {name} | {_range([run.rate for run in runs], ',.0f')} | {_range([run.cost for run in runs], '.1f')} |"


def _range(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
