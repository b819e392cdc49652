"""What came of a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.judge import Leg
from tests.chaos.scenario import Scenario
from tests.chaos.verdict import Count


@dataclass(slots=True)
class Recovery:
    """How long a direction took to go on, in seconds; None where it did not in time."""

    direction: str
    bound: float
    seconds: float | None
    slowest: str = ""

    @property
    def met(self) -> bool:
        return self.seconds is not None and self.seconds <= self.bound


@dataclass(slots=True)
class Outcome:
    """What came of a scenario."""

    scenario: Scenario
    counts: dict[Leg, Count] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Nothing lost, order kept, back in time, and nothing else wrong."""
        return not self.faults


def faults(leg: str, count: Count, duplicates: int | None) -> list[str]:
    """What is wrong with the count of a leg, where at most so many `duplicates` may be (None: any)."""
    found = [f"{leg}: nothing was promised"] if not count.promised else []
    found += [f"{leg}: lost {count.lost}: {', '.join(count.named)}"] if count.lost else []
    found += [f"{leg}: {count.reordered} out of order: {', '.join(count.late)}"] if count.reordered else []
    if duplicates is not None and count.duplicates > duplicates:
        found.append(f"{leg}: {count.duplicates} duplicates, at most {duplicates}")
    return found
