"""`kalinka config`: is a configuration right, and does the world agree with it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kalinka_cli.output import progress, quiet, show_json
from kalinka_jms.errors import ConfigError, Problem

if TYPE_CHECKING:
    from kalinka_jms.checks.finding import Finding
    from kalinka_jms.config import Settings

app = typer.Typer(no_args_is_help=True, help="Look at a configuration.")

FINDING, USAGE, UNREACHABLE = 1, 2, 3

Files = Annotated[list[Path], typer.Argument(help="TOML files.")]
Connect = Annotated[
    bool, typer.Option("--connect", help="Connect to everything in it, and find out by trying whether all is set up.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


@app.callback()
def config() -> None:
    """Look at a configuration.

    Example: kalinka config check kalinka.toml --connect
    """


@app.command()
def check(files: Files, connect: Connect = False, as_json: Json = False) -> None:
    """Say every mistake in a configuration, all at once. Without --connect nothing is connected to.

    With --connect each broker is tried over STOMP and MQTT (login, what it reports of absent devices and of those that
    come, where it forwards what devices publish, who listens to everything), Kafka is asked for the topics, their
    numbers and our rights, and ZooKeeper whether the registry can be written. One line a finding: what it means, and
    what to do. It disturbs nothing that runs, and leaves nothing behind.

    Exit codes: 0 all is fine, 1 something was found, 2 the file is wrong, 3 something cannot be reached.

    Example: kalinka config check kalinka.toml --connect
    """
    quiet()
    reports = [_report(file, connect, as_json) for file in files]
    if as_json:
        show_json(reports)
    codes = {report["code"] for report in reports}
    raise typer.Exit(next((code for code in (USAGE, UNREACHABLE, FINDING) if code in codes), 0))


def _report(file: Path, connect: bool, as_json: bool) -> dict[str, Any]:
    """Look at one file, and tell, unless all is told at the end as JSON."""
    from kalinka_jms.config import load, notes

    tell = (lambda *_, **__: None) if as_json else typer.echo
    report: dict[str, Any] = {"file": str(file), "code": 0, "problems": [], "notes": [], "findings": []}
    try:
        settings = load(file)
    except ConfigError as error:
        tell(str(error), err=True)
        return report | {"code": USAGE, "problems": [_problem(problem) for problem in error.problems]}
    for note in notes(settings):
        tell(f"{file}: note: {note}", err=True)
        report["notes"].append(_problem(note))
    tell(f"{file}: fine: {_summary(settings)}")
    if connect:
        report |= _connected(settings, tell)
    return report


def _connected(settings: Settings, tell: Callable[[str], object]) -> dict[str, Any]:
    from kalinka_jms.checks.connect import check as look
    from kalinka_jms.checks.finding import Kind, worst

    found: list[Finding] = []
    with progress() as shown:
        for finding in look(settings, shown.tell):
            shown.clear()
            tell(str(finding))
            found.append(finding)
    code = {Kind.FINDING: FINDING, Kind.UNREACHABLE: UNREACHABLE}.get(worst(found), 0)
    return {"code": code, "findings": [asdict(finding) for finding in found]}


def _problem(problem: Problem) -> dict[str, str]:
    return {"key": problem.key, "value": problem.value, "remedy": problem.remedy}


def _summary(settings: Settings) -> str:
    counts = {
        "broker": len(settings.brokers),
        "group": len(settings.groups),
        "route up": len(settings.routes.up),
        "route down": len(settings.routes.down),
    }
    return ", ".join(f"{number} {_plural(name, number)}" for name, number in counts.items())


def _plural(name: str, number: int) -> str:
    noun, _, rest = name.partition(" ")
    return f"{noun}{'' if number == 1 else 's'} {rest}".strip()
