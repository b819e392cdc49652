"""`kalinka topics`: the Kafka topics of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kalinka_cli.output import progress, quiet, show_json

if TYPE_CHECKING:
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.topic_plan import Step

app = typer.Typer(no_args_is_help=True, help="The Kafka topics of a configuration.")

FINDING, UNREACHABLE = 1, 3
PATIENCE = 60.0
"""Seconds that new topics may take until all of their copies are there."""

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Partitions = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Partitions of each topic: so many instances of sub can share the work. "
        "Default: as the group's topics have that are there, else 12.",
    ),
]
Replication = Annotated[
    int | None, typer.Option(min=1, help="Copies of each topic. Default: 3, or as many as there are Kafka nodes.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be created.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


@app.callback()
def topics() -> None:
    """The Kafka topics of a configuration.

    Example: kalinka topics create --config kalinka.toml --dry-run
    """


@app.command()
def create(
    config: Config,
    partitions: Partitions = None,
    replication: Replication = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create the topics of the configuration that do not exist. None is ever changed or deleted.

    It may be run again at any time. Topics that exist with other numbers are named, and left as they are; the exit
    code is 1 then.

    Example: kalinka topics create --config kalinka.toml --partitions 24 --replication 3
    """
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.topic_plan import Wish, carry_out, look_and_plan
    from kalinka_jms.ops.topics import unnamed, wanted

    settings = load(config)
    cluster = Cluster(settings)
    with progress() as shown:
        shown.tell("asking Kafka which topics there are")
        steps = look_and_plan(cluster, wanted(settings), Wish(partitions, replication))
        if not dry_run:
            carry_out(cluster, steps, lambda step: shown.tell(f"creating {step.topic.name}"))
            _await(cluster, steps)
    _show(steps, dry_run, unnamed(settings), as_json)


def _await(cluster: Cluster, steps: list[Step]) -> None:
    from kalinka_jms.errors import KafkaError
    from kalinka_jms.lab.waiting import wait_until
    from kalinka_jms.ops.topic_plan import complete

    made = [step for step in steps if step.action == "create"]
    if not wait_until(lambda: complete(cluster, made), PATIENCE):
        raise KafkaError(f"the new topics have no leaders, or too few copies, after {PATIENCE:.0f} s")


def _show(steps: list[Step], dry_run: bool, open_ones: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        show_json({"dry_run": dry_run, "topics": [_document(step) for step in steps], "not_named": list(open_ones)})
    else:
        for line in (line for step in steps for line in _lines(step, dry_run)):
            typer.echo(line)
        for template in open_ones:
            typer.echo(f"{template}: note: only messages name these topics; create them yourself, or let Kafka do so")
    if any(step.differences or step.action == "refused" for step in steps):
        raise typer.Exit(FINDING)


def _lines(step: Step, dry_run: bool) -> list[str]:
    name = step.topic.name
    if step.action == "refused":
        return [f"{name}: finding: Kafka does not say whether it exists; allow DESCRIBE and CREATE on it"]
    if step.action == "create":
        own = "".join(f", {key}={value}" for key, value in step.settings.items())
        verb = "would be created" if dry_run else "created"
        return [f"{name}: {verb}: {step.partitions} partitions, replication {step.replication}{own}"]
    if step.differences:
        return [
            f"{name}: finding: has {one.text}, and stays so; to change it: {one.remedy}" for one in step.differences
        ]
    return [f"{name}: exists: {step.partitions} partitions, replication {step.replication}"]


def _document(step: Step) -> dict[str, Any]:
    return {
        "name": step.topic.name,
        "action": step.action,
        "partitions": step.partitions,
        "replication": step.replication,
        "differences": [{"text": one.text, "remedy": one.remedy} for one in step.differences],
    }
