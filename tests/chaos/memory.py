"""Is the memory of a process flat over a run?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MIB = 1024 * 1024
ENOUGH = 40
"""Notes (one a second) without which nothing can be said."""
TOLERANCE = 24 * MIB
"""Bytes by which the median of the last quarter may be above that of the second quarter: buffers of a backlog that the
allocator keeps. A leak of 1 kB a message would be far beyond it within two minutes at 600 messages/s."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes of resident memory of one process: the median of the second quarter of its notes, of the last, the peak."""

    name: str
    early: int
    late: int
    peak: int
    seconds: int

    @property
    def flat(self) -> bool:
        return self.late - self.early <= TOLERANCE

    def __str__(self) -> str:
        told = "flat" if self.flat else f"NOT FLAT (more than {TOLERANCE // MIB} MiB)"
        return (
            f"memory of {self.name} over {self.seconds} s: {self.early // MIB} MiB, then {self.late // MIB} MiB, "
            f"peak {self.peak // MIB} MiB: {told}"
        )


def growth(name: str, sizes: Sequence[int]) -> Growth | None:
    """What became of a process's memory; None where it did not run long enough."""
    known = [size for size in sizes if size]
    if len(known) < ENOUGH:
        return None
    quarter = len(known) // 4
    early, late = known[quarter : 2 * quarter], known[-quarter:]
    return Growth(name, int(median(early)), int(median(late)), max(known), len(known))
