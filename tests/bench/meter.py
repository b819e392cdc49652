"""What a run took: messages a second, and CPU a message and memory as the operating system counts them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
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
    rss: float = 0.0
    """Bytes of its resident memory at the end."""

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cost(self) -> float:
        """Microseconds of CPU a message."""
        return self.cpu / self.messages * 1e6

    @property
    def figures(self) -> dict[str, float]:
        """As values of a row."""
        return {"rate": self.rate, "cpu": self.cost, "rss": self.rss}


def cpu_of(pid: int) -> float:
    """Seconds of CPU a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_of(pid: int) -> float:
    """Bytes of resident memory of a process now (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(pid: int, count: Callable[[], int], messages: int, *more: int) -> Run:
    """Measure process `pid`, and `more`, from the first message that `count` shows to the last. Raises TimeoutError."""
    pids = (pid, *more)
    start = reach(count, 1)
    began, cpu, before = time.perf_counter(), sum(map(cpu_of, pids)), start
    got = reach(count, messages)
    seconds, used = time.perf_counter() - began, sum(map(cpu_of, pids)) - cpu
    if got != messages:
        raise AssertionError(f"{got} arrived of {messages}")
    return Run(messages - before, seconds, used, sum(map(rss_of, pids)))


def reach(count: Callable[[], int], target: int, timeout: float = DEADLINE, step: float = 0.02) -> int:
    """Wait until `count` shows the target, looking every `step` seconds: what it shows then. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while (got := count()) < target:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{got} of {target} after {timeout:.0f} s")
        time.sleep(step)
    return got
