"""Contenders by turns: each once in a round, so that a slow minute of the machine is everybody's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.rows import Row

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Contender:
    """What takes part: `run` carries the messages once, verifies that all of them arrived, and tells the figures."""

    name: str
    guarantee: str
    run: Callable[[], Figures]
    curve: str = ""
    x: float = 0


def by_turns(contenders: Sequence[Contender], runs: int, sync: str) -> list[Row]:
    """A row for each; one round more than `runs`, the first, only warms up."""
    rows = [Row(one.name, one.guarantee, sync, curve=one.curve, x=one.x) for one in contenders]
    for turn in range(runs + 1):
        for contender, row in zip(contenders, rows, strict=True):
            figures = contender.run()
            say(contender.name, figures, "" if turn else "warm-up")
            if turn:
                row.add(figures)
    return rows


def say(name: str, figures: Figures, remark: str = "") -> None:
    """Progress for a human."""
    told = ", ".join(f"{figure} {value:,.4g}" for figure, value in figures.items())
    print(f"  {name}: {told} {remark}".rstrip(), file=sys.stderr, flush=True)
