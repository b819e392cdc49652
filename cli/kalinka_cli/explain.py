"""`kalinka explain`: the whole way of a message or a record by the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kalinka_cli.output import progress, quiet, show_json

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.explain import Explainer, Way
    from kalinka_jms.ops.live import Live

FINDING = 1

MqttTopic = Annotated[
    str | None, typer.Argument(metavar="MQTT_TOPIC", show_default=False, help="The topic that a device publishes to.")
]
Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Record = Annotated[
    str | None, typer.Option("--record", metavar="TOPIC", help="Explain a record in this Kafka topic instead.")
]
Key = Annotated[str | None, typer.Option("--key", help="The record's key: the device.")]
Source = Annotated[str | None, typer.Option("--source", help="Who sends the record, where it says so.")]
Header = Annotated[
    list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="A header of the record; may be repeated.")
]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="How many partitions the topics have, to see which one it is.")
]
LiveToo = Annotated[
    bool, typer.Option("--live", help="Also ask ZooKeeper and Kafka: where the device listens now, what waits for it.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


def explain(
    config: Config,
    topic: MqttTopic = None,
    record: Record = None,
    key: Key = None,
    source: Source = None,
    header: Header = None,
    partitions: Partitions = None,
    live: LiveToo = False,
    as_json: Json = False,
) -> None:
    """Show the whole way of a message or a record by the configuration.

    Which queue, route, Kafka topic, key, partition and group; where and by
    what evidence it counts as delivered; what happens while the device is
    away; or where it is refused, and why: the exit code is 1 then.
    No server is asked, unless --live is given: then it is also shown where
    the device listens now, and what waits for it.

    Example: kalinka explain mqtt/beast/mqtt/wolverine/pub --config kalinka.toml --partitions 12

    Example: kalinka explain mqtt/beast/mqtt/wolverine/pub --config kalinka.toml --live

    Example: kalinka explain --record 0.sparkcluster.mqtt --key wolverine --config kalinka.toml
    """
    headers = [_header(text) for text in header or ()]
    _check_usage(topic, record, key, bool(source or headers))
    from kalinka_jms.config import load
    from kalinka_jms.ops.explain import Explainer

    settings = load(config)
    cluster = _cluster(settings) if live else None
    explainer = Explainer(settings, cluster.count if cluster and partitions is None else lambda _: partitions)
    way = explainer.message(topic) if topic is not None else _record(explainer, record, key, source, headers)
    _show(way, as_json, _looked(settings, cluster, way) if cluster else None)
    if way.refusal is not None:
        raise typer.Exit(FINDING)


def _record(
    explainer: Explainer, record: str | None, key: str | None, source: str | None, headers: list[tuple[str, bytes]]
) -> Way:
    return explainer.record(record or "", os.fsencode(key or ""), source, headers)


def _cluster(settings: Settings) -> Cluster:
    from kalinka_jms.ops.cluster import Cluster

    quiet()
    return Cluster(settings)


def _looked(settings: Settings, cluster: Cluster, way: Way) -> Live | None:
    """What the installation says of it now."""
    from kalinka_cli.devices import session
    from kalinka_jms.ops.live import Looker

    with session(settings) as client, progress() as shown:
        return Looker(settings, client, cluster).look(way, shown.tell)


def _show(way: Way, as_json: bool, live: Live | None) -> None:
    from dataclasses import asdict

    from kalinka_jms.ops.explain_text import as_text, live_text

    if as_json:
        show_json(asdict(way) | ({"live": asdict(live)} if live is not None else {}))
    else:
        typer.echo(as_text(way))
        if live is not None:
            typer.echo(live_text(live, way))


def _check_usage(topic: str | None, record: str | None, key: str | None, more: bool) -> None:
    if (topic is None) == (record is None):
        raise typer.BadParameter("give either the MQTT topic of a message, or --record TOPIC --key KEY")
    if record is not None and key is None:
        raise typer.BadParameter("the key of a record is its device: give it with --key", param_hint="--record")
    if record is None and (key is not None or more):
        raise typer.BadParameter("--key, --source and --header belong to --record")


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} should be NAME=VALUE", param_hint="--header")
    return name, os.fsencode(value)
