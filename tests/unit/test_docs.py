"""What the pages in docs say that can be looked up: links, commands, lines of the log, fragments of files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from kalinka_cli.main import app
from kalinka_cli.reference.commands import commands

from tests.chaos.scenarios import ALL

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BY_HAND = [page for page in PAGES if not page.read_text().startswith("<!-- Made by")]
GROUPS = {command.name for command in commands(app, "kalinka") if command.group}
COMMANDS = {command.name for command in commands(app, "kalinka")}


def named(page: Path) -> str:
    return page.name


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", BY_HAND, ids=named)
def test_commands_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"`([^`\n]*)\n\s*([^`\n]*)`", r"`\1 \2`", page.read_text())
    for words in re.findall(r"(?:`|\$ |^)kalinka ((?:[a-z-]+ ?)+)", text, re.MULTILINE):
        first, *more = words.split()
        name = f"kalinka {first}"
        assert name in COMMANDS | GROUPS, words
        if name in GROUPS and more:
            assert f"{name} {more[0]}" in COMMANDS | GROUPS, words


@pytest.mark.parametrize("page", BY_HAND, ids=named)
def test_fragments_are_well_formed(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
    for block in blocks(page, "xml"):
        ElementTree.fromstring(f"<all>{block}</all>")


def test_lines_of_the_log_are_those_of_the_code() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "kalinka_jms").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    table = (ROOT / "docs" / "troubleshooting.md").read_text().split("## What a line in the log means")[1]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert len(rows) > 10
    for line in (line for row in rows for line in re.findall(r"`([^`]+)`", row.partition(" (with")[0])):
        for part in filter(None, (part.strip() for part in line.split("…"))):
            assert part in code, line


def test_proofs_that_are_named_exist() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    files = re.findall(r"(?:bridge/|registry/|secure/)?test_\w+\.py", text)
    assert len(files) > 20
    for name in files:
        folder = "integration" if "/" in name else "unit"
        assert (ROOT / "tests" / folder / name).exists(), name
    assert len(scenarios := set(re.findall(r"`([a-z]+-[a-z-]+)`", text))) > 15
    assert scenarios <= set(ALL), scenarios - set(ALL)
