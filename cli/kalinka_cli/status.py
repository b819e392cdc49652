"""`kalinka status`: the state of a running installation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kalinka_cli.output import progress, quiet, show_json, show_table

if TYPE_CHECKING:
    from kalinka_jms.ops.fleet import BrokerView
    from kalinka_jms.ops.status import Installation, InstanceView, KafkaView

FINDING, UNREACHABLE = 1, 3
BROKERS = ("BROKER", "GROUP", "ANSWERS", "REGISTRY", "WATCHED BY", "STAND BY", "PUB", "SUB", "DEVICES")
TOPICS = ("TOPIC", "FOR", "RECORDS", "BEHIND")
INSTANCES = ("INSTANCE", "READY", "HEALTHY", "LINKS DOWN", "UP", "LAG", "DOWN", "PARKED", "LEDGER")

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Where an instance serves its metrics, beside those that ZooKeeper knows; may be given several times.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


def status(config: Config, metrics: Metrics = None, as_json: Json = False) -> None:
    """Show how a running installation stands: brokers, who serves them, Kafka's topics, and what is wrong.

    ZooKeeper, Kafka, every broker, and the instances that serve metrics (they
    tell in ZooKeeper where) are asked at the same time, each for some seconds
    at most; what does not answer is told in a sentence, and the rest is shown.
    UP and DOWN are messages and records in flight, LAG the age of the oldest
    message among them. BEHIND are records that
    no instance of sub has finished. RECORDS of a parked topic are those ever
    parked that Kafka still has; kalinka parked counts what waits. The exit code
    is 0 when all is well, 1 when something is wrong, 3 when a server or an
    instance does not answer.

    Example: kalinka status --config kalinka.toml
    """
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.metrics.server import parse_address
    from kalinka_jms.ops.status import findings, look

    for address in metrics or ():
        parse_address(address)
    settings = load(config)
    with progress() as shown:
        shown.tell("asking ZooKeeper, Kafka and the brokers")
        found = look(settings, metrics or ())
    wrong = findings(found)
    if as_json:
        show_json(_document(found, wrong))
    else:
        _show(found, wrong)
    if found.away or wrong:
        raise typer.Exit(UNREACHABLE if found.away else FINDING)


def _show(found: Installation, wrong: list[str]) -> None:
    reasons = dict(found.links)
    if found.brokers is not None:
        show_table(BROKERS, [_broker(view, reasons[view.name]) for view in found.brokers])
        typer.echo()
    if found.kafka is not None:
        _show_kafka(found.kafka)
    if found.instances:
        show_table(INSTANCES, map(_instance, found.instances))
        typer.echo()
    for text in found.away:
        typer.echo(f"no answer: {text}")
    for text in wrong:
        typer.echo(f"finding: {text}")
    if not found.away and not wrong:
        typer.echo("all is well")


def _broker(view: BrokerView, reason: str) -> tuple[object, ...]:
    sub = "?" if view.links.sub is None else view.links.sub
    watcher = view.watcher or "nobody"
    answers = "no" if reason else "yes"
    return view.name, view.group, answers, view.state, watcher, view.waiting, len(view.pub), sub, view.devices


def _show_kafka(kafka: KafkaView) -> None:
    rows = [(one.name, one.purpose, one.records, "-" if one.behind is None else one.behind) for one in kafka.topics]
    show_table(TOPICS, rows)
    members = "?" if kafka.group.refused else len(kafka.group.members)
    typer.echo(f"consumer group: {kafka.group.state or 'not shown'}, instances of sub: {members}\n")


def _instance(one: InstanceView) -> tuple[object, ...]:
    if one.error:
        return one.address, "?", "?", "?", "?", "?", "?", "?", "?"
    ready = ", ".join(f"{service} {'yes' if yes else 'no'}" for service, yes in one.ready)
    links = ", ".join(one.links_down) or "none"
    ledger = "broken" if one.faults else "balanced"
    healthy = "yes" if one.healthy else "no"
    return (
        one.address,
        ready,
        healthy,
        links,
        one.in_flight_up,
        f"{one.lag:.1f} s",
        one.in_flight_down,
        one.parked,
        ledger,
    )


def _document(found: Installation, wrong: list[str]) -> dict[str, Any]:
    from kalinka_jms.ops.fleet import as_document

    kafka = found.kafka
    return {
        "brokers": None if found.brokers is None else [as_document(view) for view in found.brokers],
        "links": {name: reason or None for name, reason in found.links},
        "kafka": None
        if kafka is None
        else {
            "group": {"state": kafka.group.state, "members": len(kafka.group.members), "refused": kafka.group.refused},
            "topics": [asdict(one) for one in kafka.topics],
            "missing": list(kafka.missing),
        },
        "instances": [asdict(one) | {"ready": dict(one.ready)} for one in found.instances],
        "no_answer": list(found.away),
        "findings": wrong,
    }
