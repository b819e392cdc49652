"""What was measured: rows of figures, one value a round; rows of one part were measured by turns in the same rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

AT_LEAST_ONCE = "at least once"
NONE = "none: a ceiling"
"""Of a row that shows what a part of the way can do, and bridges nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Several values of one thing."""

    least: float
    median: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        every = sorted(values)
        return cls(every[0], statistics.median(every), every[-1], len(every))


@dataclass(frozen=True, slots=True)
class Row:
    """One contender, or one point of a curve.

    `values`: name of the figure → one value a round. `rate` is in messages/s, `cpu` in µs of CPU a message, `rss` in
    bytes, `p50` and `p99` in ms; a part may have others.
    """

    name: str
    guarantee: str
    sync: str
    """The brokers' journalDiskSyncStrategy."""
    values: dict[str, list[float]] = field(default_factory=dict)
    curve: str = ""
    """The curve that this is a point of."""
    x: float = 0
    """Where on the curve."""

    def spread(self, figure: str) -> Spread:
        """Raises KeyError where it was not measured."""
        return Spread.of(self.values[figure])

    def add(self, figures: Mapping[str, float]) -> None:
        """One more round."""
        for figure, value in figures.items():
            self.values.setdefault(figure, []).append(value)


def ratio(one: Row, other: Row, figure: str) -> Spread:
    """How many times the other's figure, round by round: a slow minute of the machine is everybody's."""
    return Spread.of(a / b for a, b in zip(one.values[figure], other.values[figure], strict=True))


def difference(one: Row, other: Row, figure: str) -> Spread:
    """How much more than the other's figure, round by round."""
    return Spread.of(a - b for a, b in zip(one.values[figure], other.values[figure], strict=True))


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the benchmark, as it was last run."""

    command: str
    machine: dict[str, str]
    settings: dict[str, Any]
    """Messages a run, and the like."""
    rows: Sequence[Row]

    def find(self, name: str) -> Row | None:
        """The row of that name."""
        return next((row for row in self.rows if row.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, node: dict[str, Any]) -> Part:
        return cls(**{**node, "rows": [Row(**row) for row in node["rows"]]})
