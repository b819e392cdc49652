"""How a verdict reads: as a table of text, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from kalinka_jms.lab.ledger import Tally, Verdict

COLUMNS = ("stream", "sent", "received", "lost", "duplicates", "reordered", "p50", "p99", "max")


def as_json(verdict: Verdict) -> str:
    """The verdict as one JSON object; latencies in seconds."""
    streams = [asdict(stream) | asdict(tally) for stream, tally in verdict.streams.items()]
    total = asdict(verdict.total)
    return json.dumps(
        {"proven": verdict.proven, "total": total, "streams": streams, "strays": verdict.strays}, indent=2
    )


def as_text(verdict: Verdict) -> str:
    """The verdict as a table for people; latencies in milliseconds or seconds, with their unit."""
    table = [COLUMNS, *rows(verdict)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [_line(row, widths) for row in table]
    rule = "-" * len(lines[0])
    named = {"lost": verdict.lost, "late": verdict.late, "stray": verdict.strays}
    notes = [f"{kind}: {message}" for kind, messages in named.items() for message in messages]
    if verdict.total.unconfirmed:
        notes.append(f"{verdict.total.unconfirmed} more were sent without an acknowledgement: neither sent nor lost")
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *notes])


def rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """One row of cells a stream, and the total as the last one."""
    streams = [cells(f"{s.source} → {s.destination} by {s.via}", tally) for s, tally in verdict.streams.items()]
    return [*streams, cells("total", verdict.total)]


def cells(name: str, tally: Tally) -> tuple[str, ...]:
    """The cells of one row, in the order of COLUMNS."""
    counts = (tally.sent, tally.received, tally.lost, tally.duplicates, tally.reordered)
    return (name, *map(str, counts), *map(_seconds, (tally.p50, tally.p99, tally.max)))


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *numbers])
