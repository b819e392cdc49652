"""The page: goals first, then ratios, then absolutes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tests.bench.goals import Verdict, judge
from tests.bench.results import Results
from tests.bench.rows import Part, Row, Spread, ratio
from tests.bench.sections import SECTIONS, Section


@dataclass(frozen=True, slots=True)
class Column:
    """How a figure is shown."""

    title: str
    form: str
    scale: float = 1.0

    def show(self, row: Row, figure: str) -> str:
        """Median and range, or one value; a dash where it was not measured."""
        return shown(row.spread(figure), self.form, self.scale) if figure in row.values else "–"


COLUMNS = {
    "rate": Column("messages/s", ",.0f"),
    "cpu": Column("CPU, µs a message", ".1f"),
    "cores": Column("cores", ".2f"),
    "p50": Column("p50, ms", ".1f"),
    "p99": Column("p99, ms", ".1f"),
    "most": Column("longest, ms", ".1f"),
    "copies": Column("copies", ".0f"),
    "early": Column("MB early", ".1f", 1e-6),
    "rss": Column("MB", ".1f", 1e-6),
}
RATIOS = ("rate", "cpu", "rss")
_FINE = ".3g"
HEAD = """\
<!-- Made by make bench; do not edit. -->
# Performance

`make bench` measured all of this, and wrote this page. Everything ran on one machine: brokers, Kafka, devices and
the bridge share its cores. Contenders took turns, so compare ratios; seconds are those of this machine. Each figure is
the median of its rounds, with the least and the most. CPU is what the operating system counts for the process. In every
row what arrived is what was sent, or the run would have failed.
"""
NOTES = "\nWhere the time went, and what each change brought: [speed.md](speed.md)."


def page(results: Results, *, notes: bool = False) -> str:
    """The Markdown page for these results; `notes`: there is a page about what made it so."""
    blocks = [HEAD, _goals(judge(results)), *_sections(results), _measured(results), NOTES if notes else ""]
    return "\n".join(blocks).rstrip() + "\n"


def shown(spread: Spread, form: str, scale: float = 1.0) -> str:
    """Median and range."""
    median, least, most = (f"{value * scale:{form}}" for value in (spread.median, spread.least, spread.most))
    return median if spread.count == 1 else f"{median} ({least} to {most})"


def _goals(verdicts: Sequence[Verdict]) -> str:
    lines = ["## Goals\n", *_table(("goal", "limit", "seen", ""), map(_verdict, verdicts))]
    short: defaultdict[str, list[str]] = defaultdict(list)
    for one in verdicts:
        if one.seen and not one.met and one.goal.because:
            short[one.goal.because].append(one.goal.text)
    reasons = [f"- {'; '.join(texts)}: {reason}." for reason, texts in short.items()]
    return "\n".join([*lines, *(["\nWhy they fall short:\n", *reasons] if reasons else []), ""])


def _verdict(one: Verdict) -> Sequence[str]:
    seen = f"{shown(one.seen, _FINE)} {one.goal.unit}" if one.seen else "–"
    return one.goal.text, one.goal.bound, seen, one.words


def _sections(results: Results) -> Iterator[str]:
    for section in SECTIONS:
        if part := results.get(section.part):
            yield _section(section, part)


def _section(section: Section, part: Part) -> str:
    lines = [f"## {section.title}\n", f"{section.note} {_amounts(part)}\n"]
    base = part.find(section.base)
    if base is not None:
        lines += [*_ratios(base, [row for row in part.rows if row is not base]), ""]
    lines += [*absolutes(part.rows), ""]
    if section.plot:
        lines += [f"![{section.title}]({plot_name(section.part)})\n"]
    return "\n".join(lines)


def _amounts(part: Part) -> str:
    told = ", ".join(f"{value:,} {name}" for name, value in sorted(part.settings.items()))
    return f"({told})"


def plot_name(part: str) -> str:
    """The file of a part's plot, beside the page."""
    return f"performance-{part}.svg"


def _ratios(base: Row, others: Sequence[Row]) -> Iterator[str]:
    def row(other: Row) -> Sequence[str]:
        return other.name, *(shown(ratio(base, other, figure), _FINE) for figure in RATIOS)

    yield from _table((f"{base.name}, of that of", "rate ×", "CPU ×", "memory ×"), map(row, others))


def absolutes(rows: Sequence[Row]) -> Iterator[str]:
    """A table of all that was measured, a line at a time."""
    figures = [figure for figure in COLUMNS if any(figure in row.values for row in rows)]

    def cells(row: Row) -> Sequence[str]:
        return row.name, row.guarantee, row.sync, *(COLUMNS[figure].show(row, figure) for figure in figures)

    titles = ("", "guarantee", "journalDiskSyncStrategy", *(COLUMNS[one].title for one in figures))
    yield from _table(titles, map(cells, rows))


def _table(titles: Sequence[str], rows: Iterator[Sequence[str]] | map[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for cells in rows:
        yield "| " + " | ".join(cells) + " |"


def _measured(results: Results) -> str:
    """What was run, and where: once for parts that were run the same way."""
    lines = ["## How it was measured\n"]
    key: Callable[[str], str] = lambda name: f"{results[name].command} {results[name].machine}"  # noqa: E731
    for _, names in groupby(sorted(results, key=key), key=key):
        parts = list(names)
        one = results[parts[0]]
        lines.append(f"`{one.command}` gave {', '.join(parts)}:")
        lines += [f"- {name}: {value}" for name, value in one.machine.items()]
        lines.append("")
    lines.append("The figures of every round are in [performance.json](performance.json).")
    lines.append('`make bench ARGS="--check"` measures anew and compares the ratios with those.')
    return "\n".join(lines)
