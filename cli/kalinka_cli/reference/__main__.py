"""`make docs` writes the pages; `make check` fails where they are not what would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from kalinka_cli.reference import commands, dashboard, metrics, settings, transcripts

USAGE = "usage: python -m kalinka_cli.reference [--check] [DIRECTORY]"


def pages(docs: Path) -> dict[Path, str]:
    """Every file that is made, with its content. The transcripts that need no server are recorded anew."""
    recorded = {path: transcripts.record(path) for path in transcripts.offline(docs)}
    shown = {path: recorded.get(path, path.read_text()) for path in transcripts.every(docs)}
    return {
        **recorded,
        docs / "configuration.md": settings.page(),
        docs / "metrics.md": metrics.page(),
        docs / "monitoring" / "dashboard.json": dashboard.page(),
        docs / "commands.md": commands.page({path.stem: text for path, text in shown.items()}),
    }


def stale(docs: Path) -> list[Path]:
    """The files that are not current."""
    return [path for path, text in pages(docs).items() if not path.exists() or path.read_text() != text]


def main(args: list[str]) -> int:
    """Write, or with `--check` only compare; the exit code."""
    check = "--check" in args
    rest = [arg for arg in args if arg != "--check"]
    if len(rest) > 1 or any(arg.startswith("-") for arg in rest):
        print(USAGE, file=sys.stderr)
        return 2
    docs = Path(rest[0] if rest else "docs")
    if not check:
        for path, text in pages(docs).items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return 0
    found = stale(docs)
    for path in found:
        print(f"{path} is not current: run `make docs`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
