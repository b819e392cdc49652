"""`kalinka brokers`: the brokers as Kalinka sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kalinka_cli.devices import session
from kalinka_cli.output import progress, quiet, show_json, show_table

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.cluster import GroupState
    from kalinka_jms.ops.fleet import BrokerView

FINDING = 1
TITLES = ("BROKER", "GROUP", "STATE", "DEVICES", "WATCHED BY", "PUB ACTIVE", "LINKS")
KAFKA = 5.0
"""Seconds for Kafka to say who reads."""

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


def brokers(config: Config, as_json: Json = False) -> None:
    """Show every broker: its state, who watches it, which pub is active, how many devices and links it has.

    The state is what the watcher last wrote: up, or down once the broker was
    away for longer than registry.grace; its devices do not count then. Links
    are those of Kalinka's services: of each pub (one is active, the others
    stand by), of each sub that serves the group, and of the watcher. The exit
    code is 1 when a broker is not up, or lacks one of its links.

    Example: kalinka brokers --config kalinka.toml
    """
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.ops.fleet import Fleet, as_document

    settings = load(config)
    with session(settings) as client, progress() as shown:
        shown.tell("asking Kafka who reads")
        views = Fleet(client, settings).views(_readers(settings), shown.tell)
    if as_json:
        show_json([as_document(view) for view in views])
    else:
        show_table(TITLES, map(_row, views))
    if not all(map(_whole, views)):
        raise typer.Exit(FINDING)


def _readers(settings: Settings) -> GroupState | None:
    from kalinka_jms.errors import KafkaError
    from kalinka_jms.ops.cluster import Cluster

    try:
        return Cluster(settings, KAFKA).group(settings.sub.consumer_group)
    except KafkaError as error:
        typer.echo(f"the links of sub are not known: {error}", err=True)
        return None


def _row(view: BrokerView) -> tuple[object, ...]:
    links = view.links
    active = view.active[:8] if view.active else "-" if not view.pub else "all"
    sub = "?" if links.sub is None else links.sub
    return (
        view.name,
        view.group,
        view.state,
        view.devices,
        view.watcher or "nobody",
        active,
        f"pub {links.pub}, sub {sub}, registry {links.registry}",
    )


def _whole(view: BrokerView) -> bool:
    links = view.links
    return view.state == "up" and links.pub > 0 and links.registry > 0 and links.sub != 0
