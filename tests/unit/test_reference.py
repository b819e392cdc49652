"""The pages in docs that are made: current, whole, and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kalinka_cli.main import app
from kalinka_cli.reference import transcripts
from kalinka_cli.reference.__main__ import pages, stale
from kalinka_cli.reference.commands import Command, commands, page, parameter, texts
from kalinka_cli.reference.commands import _signature as signature
from kalinka_cli.reference.settings import TABLES, _meanings
from pydantic import BaseModel
from typer.testing import CliRunner

from kalinka_jms.config.kafka_check import OWNED
from kalinka_jms.config.settings import Routes, Settings

DOCS = Path(__file__).parents[2] / "docs"
EVERY = list(commands(app, "kalinka"))


def named(command: Command) -> str:
    return command.name.replace(" ", "-")


def test_the_pages_are_current() -> None:
    assert stale(DOCS) == [], "run `make docs`"


def test_the_check_names_what_is_not_current(tmp_path: Path) -> None:
    (tmp_path / "transcripts").mkdir()
    run = [sys.executable, "-m", "kalinka_cli.reference", str(tmp_path)]
    done = subprocess.run([*run, "--check"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{tmp_path}/{name} is not current: run `make docs`"
        for name in ("configuration.md", "metrics.md", "monitoring/dashboard.json", "commands.md")
    ]
    assert subprocess.run(run, timeout=120, check=False).returncode == 0
    assert stale(tmp_path) == []
    assert subprocess.run([*run, "more", "--nonsense"], capture_output=True, timeout=120, check=False).returncode == 2


@pytest.mark.parametrize("model", [Settings, Routes, *(model for _, model in TABLES)])
def test_every_setting_has_a_meaning_and_says_what_is_right(model: type[BaseModel]) -> None:
    meanings = _meanings(model)
    assert {name for name, text in meanings.items() if text.endswith(".")} == set(model.model_fields)
    assert all(field.description for field in model.model_fields.values())


def test_every_setting_is_on_the_page() -> None:
    text = pages(DOCS)[DOCS / "configuration.md"]
    for _, model in TABLES:
        for name, field in model.model_fields.items():
            assert f"| `{field.validation_alias or name}` |" in text
    for key, reason in OWNED.items():
        assert f"| `{key}` | {reason}." in text


@pytest.mark.parametrize("command", EVERY, ids=named)
def test_every_option_is_one_of_the_command(command: Command) -> None:
    done = CliRunner().invoke(app, [*command.name.split()[1:], "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for name, info in signature(command.call):
        one = parameter(name, info)
        for option in () if one.argument else one.names:
            assert option in done.stdout


@pytest.mark.parametrize("command", EVERY, ids=named)
def test_every_command_teaches_with_an_example_of_itself(command: Command) -> None:
    text, examples = texts(command.call)
    assert text[0].endswith(".")
    assert any(example.startswith(command.name) or f"| {command.name}" in example for example in examples)


def test_a_transcript_stands_with_its_command() -> None:
    text = page({"explain": "$ kalinka explain x\nsomething\n"})
    section = text[text.index("## `kalinka explain`") : text.index("## `kalinka pub`")]
    assert "A real run:\n\n```\n$ kalinka explain x\nsomething\n```\n" in section


def test_every_transcript_belongs_to_a_command() -> None:
    names = {command.name.partition(" ")[2].replace(" ", "-") for command in EVERY}
    assert {path.stem.partition(".")[0] for path in transcripts.every(DOCS)} <= names
    assert {path.stem for path in transcripts.offline(DOCS)} == set(transcripts.OFFLINE)


def test_only_kalinka_itself_is_run(tmp_path: Path) -> None:
    (file := tmp_path / "explain.txt").write_text("$ rm -rf x\n")
    with pytest.raises(ValueError, match="not a command of kalinka"):
        transcripts.record(file)
