"""Whether a run is worse than the one that is kept: ratios are compared, never seconds.

A ratio is that of two rows measured by turns on the same machine, so it means the same on another one. It is worse when
its median is, by more than the tolerance, and the two ranges do not even touch: one slow round proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.goals import GOALS, Goal
from tests.bench.results import Results
from tests.bench.rows import Part, Spread

TOLERANCE = 0.15
"""How much worse a median may be."""


@dataclass(frozen=True, slots=True)
class Change:
    """A goal's figure then and now."""

    goal: Goal
    kept: Spread
    now: Spread

    @property
    def worse(self) -> float:
        """By how much, as a part of what it was; negative where it is better."""
        change = (self.now.median - self.kept.median) / abs(self.kept.median)
        return change if self.goal.at_most else -change

    @property
    def apart(self) -> bool:
        """Whether even the best now is worse than the worst of then."""
        if self.goal.at_most:
            return self.now.least > self.kept.most
        return self.now.most < self.kept.least

    def fails(self, tolerance: float) -> bool:
        """Whether it is worse by more than that, beyond doubt."""
        return self.worse > tolerance and self.apart

    def __str__(self) -> str:
        return (
            f"{self.goal.text}: {self.now.median:.3g} {self.goal.unit} ({self.now.least:.3g} to {self.now.most:.3g}), "
            f"was {self.kept.median:.3g} ({self.kept.least:.3g} to {self.kept.most:.3g})"
        )


def changes(kept: Results, now: Results) -> list[Change]:
    """Every figure that both have, and that is a ratio: a difference in ms is one of this machine."""
    return list(_changes(kept, now))


def _changes(kept: Results, now: Results) -> Iterator[Change]:
    for goal in GOALS:
        if goal.unit != "×" or not {goal.part} <= kept.keys() & now.keys():
            continue
        before, after = _both(goal, kept[goal.part], now[goal.part])
        if before is not None and after is not None:
            yield Change(goal, before, after)


def _both(goal: Goal, kept: Part, now: Part) -> tuple[Spread | None, Spread | None]:
    return goal.measure(kept), goal.measure(now)


def report(found: list[Change], tolerance: float = TOLERANCE) -> tuple[str, bool]:
    """A line for each, and whether all of them stand. Nothing to compare is a failure as well."""
    lines = [f"{'WORSE' if one.fails(tolerance) else 'ok   '} {one}" for one in found]
    if not lines:
        return "nothing to compare: neither run has a part of the other's", False
    return "\n".join(lines), not any(one.fails(tolerance) for one in found)
