"""The results as they are kept in docs/performance.json: parts by name, run in one go or one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.rows import Part

Results = dict[str, Part]
PLACES = 6
"""Significant digits that are kept."""


def load(path: Path) -> Results:
    """What the file holds; nothing where there is none."""
    if not path.exists():
        return {}
    return {name: Part.from_json(node) for name, node in json.loads(path.read_text())["parts"].items()}


def save(path: Path, results: Results) -> None:
    """Write them, the same bytes for the same results."""
    parts = {name: _rounded(results[name].to_json()) for name in sorted(results)}
    path.write_text(json.dumps({"parts": parts}, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _rounded(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _rounded(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_rounded(value) for value in node]
    return float(f"{node:.{PLACES}g}") if isinstance(node, float) else node
