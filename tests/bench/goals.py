"""The goals of speed, and how far the results are from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench import names
from tests.bench.results import Results
from tests.bench.rows import AT_LEAST_ONCE, Part, Row, Spread, difference, ratio

Measure = Callable[[Part], Spread | None]
"""Finds the figure that counts; None where its rows were not measured."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: the median of a figure of a part is at least, or at most, `limit`."""

    part: str
    text: str
    limit: float
    measure: Measure
    at_most: bool = True
    unit: str = "×"
    because: str = ""
    """Why it may fall short on the machine of a benchmark."""

    @property
    def bound(self) -> str:
        """The limit in words."""
        return f"{'≤' if self.at_most else '≥'} {self.limit:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal beside what was measured; no `seen` where it was not."""

    goal: Goal
    seen: Spread | None

    @property
    def met(self) -> bool:
        """Whether the median is on the right side of the limit."""
        return self.seen is not None and self.short <= 0

    @property
    def short(self) -> float:
        """By how much it falls short, as a part of the limit; negative where it is met."""
        assert self.seen is not None
        over = (self.seen.median - self.goal.limit) / self.goal.limit
        return over if self.goal.at_most else -over

    @property
    def words(self) -> str:
        """Met, or short by how much."""
        if self.seen is None:
            return "not measured"
        if self.met:
            return "met"
        both = " (rounds on both sides)" if self.seen.least <= self.goal.limit <= self.seen.most else ""
        return f"**short by {self.short:.0%}**{both}"


def judge(results: Results) -> list[Verdict]:
    """Every goal, in the order of the list."""
    return [Verdict(goal, _seen(goal, results.get(goal.part))) for goal in GOALS]


def _seen(goal: Goal, part: Part | None) -> Spread | None:
    return None if part is None else goal.measure(part)


def _over(one: str, other: str, figure: str) -> Measure:
    return lambda part: _compared(part.find(one), part.find(other), figure, ratio)


def _added(figure: str) -> Measure:
    return lambda part: _compared(part.find(names.BRIDGED), part.find(names.RELAY), figure, difference)


def _over_best(one: str, figure: str, exact: bool) -> Measure:
    """Against the best of Camel's modes in that figure; `exact`: of those that deliver at least once."""

    def measure(part: Part) -> Spread | None:
        rivals = [row for row in part.rows if row.name.startswith(names.CAMEL) and _counts(row, exact)]
        return _compared(part.find(one), best(rivals, figure), figure, ratio)

    return measure


def _counts(row: Row, exact: bool) -> bool:
    return not exact or row.guarantee == AT_LEAST_ONCE


def best(rows: Sequence[Row], figure: str) -> Row | None:
    """The row with the highest rate, or the least of anything else."""
    pick = max if figure == "rate" else min
    return pick(rows, key=lambda row: row.spread(figure).median, default=None)


def _compared(one: Row | None, other: Row | None, figure: str, how: Callable[[Row, Row, str], Spread]) -> Spread | None:
    if one is None or other is None:
        return None
    return how(one, other, figure)


def _grown(name: str) -> Measure:
    def measure(part: Part) -> Spread | None:
        row = part.find(name)
        if row is None:
            return None
        return Spread.of(late / early for late, early in zip(row.values["rss"], row.values["early"], strict=True))

    return measure


_MORE = "beyond the bare loop stand routes, ids, the order of each stream, a bound in bytes and the ledger of metrics"
_MET = f"{_MORE}; and each of the 1,000 devices is met for the first time, which costs a question to ZooKeeper"
_ACKNOWLEDGED = "the goal was set by Camel's transactions; client acknowledgement, found later, is its better way"
_NEAR = "what either takes moves by a third from round to round, as brokers and Kafka take the cores from them"
_HOPS = "two processes more share the cores, and wait for their turn on them behind brokers and Kafka"
_QUICK = "a run with --quick has 300,000 messages, not 1,000,000: what still settles counts more"
_KAFKA = "Kafka and the stubs need the rest of the two cores: two processes carry more than one does, and wait for them"
_SHARED = (
    "brokers, Kafka and devices run on the same cores and take most of them: the bridge is not what limits the rate"
)

GOALS = (
    Goal(
        "pub",
        "pub: rate of a bare reader-to-producer loop",
        0.95,
        _over(names.PUB, names.BARE_UP, "rate"),
        False,
        because=_MORE,
    ),
    Goal("pub", "pub: CPU of that loop", 1.25, _over(names.PUB, names.BARE_UP, "cpu"), because=_MORE),
    Goal(
        "pub",
        "pub: CPU of Camel's fastest mode",
        0.45,
        _over(names.PUB, names.CAMEL_FASTEST, "cpu"),
        because=_NEAR,
    ),
    Goal("pub", "pub: rate of Camel, transacted", 4, _over(names.PUB, names.CAMEL_TRANSACTED, "rate"), False),
    Goal("pub", "pub: CPU of Camel, transacted", 0.12, _over(names.PUB, names.CAMEL_TRANSACTED, "cpu")),
    Goal(
        "pub",
        "pub: rate of Camel's best at-least-once mode",
        4,
        _over_best(names.PUB, "rate", True),
        False,
        because=_ACKNOWLEDGED,
    ),
    Goal(
        "pub",
        "pub: CPU of Camel's cheapest at-least-once mode",
        0.12,
        _over_best(names.PUB, "cpu", True),
        because=_ACKNOWLEDGED,
    ),
    Goal("sub", "sub: rate of a bare sender", 0.8, _over(names.SUB, names.BARE_DOWN, "rate"), False, because=_SHARED),
    Goal("sub", "sub: CPU of that sender", 2.5, _over(names.SUB, names.BARE_DOWN, "cpu"), because=_MET),
    Goal(
        "sub",
        "sub: rate of Camel's synchronous kafka → jms",
        2,
        _over_best(names.SUB, "rate", False),
        False,
        because=_SHARED,
    ),
    Goal("latency", "end to end at 500 messages/s: added at p50", 5, _added("p50"), unit="ms", because=_HOPS),
    Goal("latency", "end to end at 500 messages/s: added at p99", 25, _added("p99"), unit="ms", because=_HOPS),
    Goal(
        "memory", "pub: memory after 1,000,000 messages, of that after 100,000", 1.05, _grown(names.PUB), because=_QUICK
    ),
    Goal(
        "memory", "sub: memory after 1,000,000 messages, of that after 100,000", 1.05, _grown(names.SUB), because=_QUICK
    ),
    Goal(
        "cores",
        "two pubs on two brokers: cores they keep busy, of those of one",
        1.5,
        _over(names.TWO_PROCESSES, names.ONE_PROCESS, "cores"),
        False,
        because=_KAFKA,
    ),
)
