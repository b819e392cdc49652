"""What both pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

NOT_BY_HAND = "<!-- Made by `make docs` from {source}. Change that, not this. -->"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, with an empty line after it; nothing where there are no rows."""
    lines = [_row(row) for row in rows]
    if lines:
        yield _row(titles)
        yield "|" + "---|" * len(titles)
        yield from lines
        yield ""


def fenced(text: str, language: str = "") -> Iterator[str]:
    """Text as it is, with an empty line after it."""
    yield f"```{language}"
    yield from text.rstrip("\n").split("\n")
    yield "```"
    yield ""


def code(text: str) -> str:
    """A short text as code."""
    return f"`{text}`" if text else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
