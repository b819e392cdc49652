"""`kalinka parked`: what waits for devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kalinka_cli.output import age, progress, quiet, show_json, show_table, size

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Limit = Annotated[int, typer.Option(min=0, help="How many lines are shown; 0 shows all.")]
Records = Annotated[
    int, typer.Option(min=0, help="How many of the newest records are read, evenly of all partitions; 0 reads all.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
Found = TypeVar("Found")


def parked(config: Config, limit: Limit = 50, records: Records = 1_000_000, as_json: Json = False) -> None:
    """List the devices for which records wait, those with the most first.

    They are away, and get their records in order when they listen again, at
    whatever broker. Nothing is taken away by looking.

    Example: kalinka parked --config kalinka.toml --limit 10
    """
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.ops import tally
    from kalinka_jms.ops.topics import parked_topic

    settings = load(config)
    found, whole = _read(settings, [parked_topic(group) for group in settings.groups], records, tally.parked)
    some = found[: limit or None]
    if as_json:
        show_json({"complete": whole, "count": sum(one.count for one in found), "devices": [asdict(o) for o in some]})
        return
    now = time.time()
    rows = [(one.device, one.count, age(now - one.oldest), size(one.bytes)) for one in some]
    show_table(("DEVICE", "RECORDS", "OLDEST", "SIZE"), rows)
    _more(len(found), len(some), "devices", whole, records)


def _read(
    settings: Settings, topics: list[str], records: int, count: Callable[[Iterable[Any]], list[Found]]
) -> tuple[list[Found], bool]:
    """What the newest records of the topics come to, and whether those are all."""
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.reader import newest, read

    with progress() as shown:
        shown.tell("asking Kafka")
        spans = Cluster(settings).spans(topics)
        chosen = newest(spans, records)
        return count(read(settings, chosen, shown.tell)), chosen == spans


def _more(found: int, shown: int, what: str, whole: bool, records: int) -> None:
    if shown < found:
        typer.echo(f"the first {shown} of {found} {what}; --limit 0 shows all", err=True)
    if not whole:
        typer.echo(f"only the newest {records} records were read; --records 0 reads all", err=True)
