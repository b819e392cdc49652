"""`kalinka parked`: what waits for devices that are away, and how to drop it."""

from __future__ import annotations

import time
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kalinka_cli.output import age, progress, quiet, show_json, show_table, size

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.tally import Waiting

app = typer.Typer(invoke_without_command=True)

FINDING = 1


class Sort(StrEnum):
    """What the list is sorted by."""

    COUNT = "count"
    OLDEST = "oldest"
    BYTES = "bytes"
    DEVICE = "device"


Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
MaybeConfig = Annotated[Path | None, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Match = Annotated[str, typer.Option(help='Only devices whose name this glob takes, such as "press-*".')]
Older = Annotated[float, typer.Option(min=0, help="Only devices whose oldest record is older than so many seconds.")]
Group = Annotated[str, typer.Option(help="Only what is parked in this group.")]
SortBy = Annotated[Sort, typer.Option("--sort", help="The most first: records, age, bytes; or the names in order.")]
Limit = Annotated[int, typer.Option(min=0, help="How many lines are shown; 0 shows all.")]
Records = Annotated[
    int, typer.Option(min=0, help="How many of the newest records are read, evenly of all partitions; 0 reads all.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done.")]


@app.callback()
def parked(
    context: typer.Context,
    config: MaybeConfig = None,
    match: Match = "*",
    older: Older = 0.0,
    group: Group = "",
    sort: SortBy = Sort.COUNT,
    limit: Limit = 50,
    records: Records = 1_000_000,
    as_json: Json = False,
) -> None:
    """List the devices for which records wait, those with the most first.

    They are away, and get their records in order when they listen again, at
    whatever broker. Nothing is taken away by looking.

    Example: kalinka parked --config kalinka.toml --limit 10

    Example: kalinka parked --config kalinka.toml --match "press-*" --sort oldest
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise typer.BadParameter("is missing", param_hint="--config")
    quiet()
    from kalinka_jms.config import load

    found, whole = _found(load(config), match, older, group, sort, records)
    some = found[: limit or None]
    if as_json:
        counted = sum(one.count for one in found)
        show_json({"complete": whole, "count": counted, "devices": [_as_json(one) for one in some]})
        return
    now = time.time()
    rows = [(one.device, one.count, age(now - one.oldest), size(one.bytes)) for one in some]
    show_table(("DEVICE", "RECORDS", "OLDEST", "SIZE"), rows)
    if len(some) < len(found):
        typer.echo(f"the first {len(some)} of {len(found)} devices; --limit 0 shows all", err=True)
    if not whole:
        typer.echo(f"only the newest {records} records were read; --records 0 reads all", err=True)


@app.command()
def drop(
    config: Config,
    match: Match,
    older: Older = 0.0,
    group: Group = "",
    yes: Yes = False,
    wait: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Drop what waits for devices: they never get it. It is counted as expired.

    Those who serve the devices are asked to, so it is exact while they run:
    what was parked until now goes, what comes later stays; what is on its
    way to a device at this moment may still reach it. Where nobody runs it
    is done when somebody starts. The exit code is 1 when it was not done in
    time; it will be.

    Example: kalinka parked drop --config kalinka.toml --match press-7

    Example: kalinka parked drop --config kalinka.toml --match "*" --older 86400 --yes
    """
    quiet()
    from kalinka_jms.config import load

    settings = load(config)
    found, _ = _found(settings, match, older, group, Sort.COUNT, 0)
    records = sum(one.count for one in found)
    if found and not yes:
        typer.confirm(f"Drop {records} records of {_named(found)}?", abort=True, err=True)
    left = _carry_out(settings, found, wait) if found else 0
    if as_json:
        show_json({"records": records, "devices": [one.device for one in found], "left": left})
    elif not left:
        typer.echo(f"dropped {records} records of {_named(found)}")
    else:
        typer.echo(f"asked to drop {records} records of {_named(found)}: it is done when kalinka sub runs", err=True)
    if left:
        raise typer.Exit(FINDING)


def _found(
    settings: Settings, match: str, older: float, group: str, sort: Sort, records: int
) -> tuple[list[Waiting], bool]:
    """The devices that are wanted, of the newest so many records, and whether those are all."""
    from kalinka_jms.names import parked_topic
    from kalinka_jms.ops import tally
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.reader import newest, read

    if group and group not in settings.groups:
        raise typer.BadParameter(f"no broker has this group; there are {', '.join(settings.groups)}")
    with progress() as shown:
        shown.tell("asking Kafka")
        spans = Cluster(settings).spans([parked_topic(one) for one in settings.groups if group in ("", one)])
        chosen = newest(spans, records)
        found = tally.parked(read(settings, chosen, shown.tell))
    latest = time.time() - older
    wanted = [one for one in found if fnmatchcase(one.device, match) and (not older or one.oldest < latest)]
    return sorted(wanted, key=tally.ORDERS[sort]), chosen == spans


def _carry_out(settings: Settings, found: list[Waiting], timeout: float) -> int:
    """Ask for it and wait until it is done, or for so many seconds; returns how many requests are not."""
    from kalinka_jms.ops import drop as dropping

    with progress() as shown:
        shown.tell("asking")
        return dropping.wait(settings, dropping.ask(settings, found), timeout, shown.tell)


def _named(found: list[Waiting]) -> str:
    return found[0].device if len(found) == 1 else f"{len(found)} devices"


def _as_json(one: Waiting) -> dict[str, Any]:
    oldest = datetime.fromtimestamp(one.oldest).astimezone().isoformat(timespec="milliseconds")
    return {
        "device": one.device,
        "count": one.count,
        "bytes": one.bytes,
        "oldest": one.oldest,
        "oldest_at": oldest,
        "places": [f"{topic}/{partition}" for topic, partition in sorted(one.places)],
    }
