"""The plots beside the page: SVG, small, and the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.report import plot_name
from tests.bench.results import Results
from tests.bench.rows import Row
from tests.bench.sections import SECTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, and searchable
    "svg.hashsalt": "kalinka",  # or ids are made up anew every time
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what there is. Raises ImportError without the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    with matplotlib.rc_context(_STYLE):
        return list(_draw(results, folder))


def _draw(results: Results, folder: Path) -> Iterator[Path]:
    for section in SECTIONS:
        part = results.get(section.part)
        if part is None or not section.plot:
            continue
        path = folder / plot_name(section.part)
        rows = [row for row in part.rows if row.values.get("cpu")]
        _save(path, rows, section.title, curves=section.plot == "curves", unit=section.part)
        yield path


def _save(path: Path, rows: Sequence[Row], title: str, *, curves: bool, unit: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2 if curves else 0.8 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    if curves:
        _curves(axes, rows, "bytes" if unit == "bytes" else "brokers" if unit == "brokers" else "devices")
    else:
        _bars(axes, rows)
    axes.set_title(title)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _curves(axes: Axes, rows: Sequence[Row], unit: str) -> None:
    for curve in dict.fromkeys(row.curve for row in rows):
        points = [row for row in rows if row.curve == curve]
        spreads = [row.spread("cpu") for row in points]
        medians = [one.median for one in spreads]
        beside: Any = [[one.median - one.least for one in spreads], [one.most - one.median for one in spreads]]
        axes.errorbar([row.x for row in points], medians, yerr=beside, marker="o", capsize=3, label=curve.split(",")[0])
    axes.set_xscale("log")
    if rows and max(row.spread("cpu").most for row in rows) > 20 * min(row.spread("cpu").least for row in rows):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(unit)
    axes.set_ylabel("CPU, µs a message")
    axes.legend()


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    spreads = [row.spread("cpu") for row in rows]
    medians = [one.median for one in spreads]
    beside: Any = [[one.median - one.least for one in spreads], [one.most - one.median for one in spreads]]
    colours = ["tab:orange" if row.name.startswith("kalinka") else "tab:grey" for row in rows]
    axes.barh([row.name for row in rows], medians, xerr=beside, color=colours, capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("CPU, µs a message")
