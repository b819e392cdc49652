"""`kalinka send`: a record for a device, and what becomes of it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kalinka_cli.output import progress, quiet, show_json

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.tracer import Trace, Tracer

FINDING = 1

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Device = Annotated[str, typer.Argument(show_default=False, help="The device that is to get it.")]
Payload = Annotated[str, typer.Argument(show_default=False, help="The payload; - reads it from standard input.")]
Topic = Annotated[
    str | None,
    typer.Option(help="The Kafka topic. Default: that of the device's group, of the first route that fits the source."),
]
Source = Annotated[str | None, typer.Option(help="Who sends it, for routes whose MQTT topic names the source.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the outcome.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


def send(
    config: Config,
    device: Device,
    payload: Payload = "",
    topic: Topic = None,
    source: Source = None,
    wait: Wait = 10.0,
    as_json: Json = False,
) -> None:
    """Write a record for a device into Kafka, and say what becomes of it.

    delivered: the device's broker took it, and had a subscriber for it.
    parked: the device is away; it gets the record when it listens again.
    dead: it can never be delivered; the reason is said. A record that was
    moved went to the topic of another group first. The exit code is 0 only
    when it was delivered.

    Example: kalinka send wolverine "hello" --config kalinka.toml

    Example: kalinka send wolverine - --source beast --wait 30 --config kalinka.toml < photo.jpg
    """
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.ops.tracer import Tracer

    settings = load(config)
    body = sys.stdin.buffer.read() if payload == "-" else os.fsencode(payload)
    with progress() as shown:
        shown.tell("asking Kafka")
        tracer = Tracer(settings)
        chosen = _topic(tracer, settings, device, topic, source)
        trace = tracer.send(chosen, os.fsencode(device), body, source)
        trace = tracer.follow(trace, wait, shown.tell)
    _show(trace, as_json)
    if trace.outcome != "delivered":
        raise typer.Exit(FINDING)


def _topic(tracer: Tracer, settings: Settings, device: str, topic: str | None, source: str | None) -> str:
    if topic is None:
        return tracer.topic(device, source, _group(settings, device) if len(settings.groups) > 1 else None)
    if topic not in tracer.topics:
        raise typer.BadParameter(
            f"no route leads from {topic}; there are {', '.join(tracer.topics)}", param_hint="--topic"
        )
    return topic


def _group(settings: Settings, device: str) -> str | None:
    """The group of the broker where the device listens."""
    from kalinka_cli.devices import session
    from kalinka_jms.ops.census import Census

    groups = {broker.name: broker.group for broker in settings.brokers}
    with session(settings) as client:
        census = Census(client, settings.zookeeper.root)
        down = census.down(list(groups))
        for _, entry in census.entries([device]):
            return next((groups[name] for name in entry.without(down).brokers if name in groups), None)
    return None


def _show(trace: Trace, as_json: bool) -> None:
    if as_json:
        show_json(asdict(trace))
        return
    where = f"{trace.topic}/{trace.partition}/{trace.offset}"
    moved = "".join(f"moved to {topic}, " for topic in trace.moves)
    outcome = trace.outcome or "still in flight"
    reason = f": {trace.reason}" if trace.reason else ""
    typer.echo(f"{moved}{outcome} after {trace.seconds:.2f} s{reason} (kalinka.id {trace.id}, {where})")
