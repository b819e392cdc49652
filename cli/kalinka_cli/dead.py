"""`kalinka dead`: what will never reach its place, and another attempt for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kalinka_cli.output import age, progress, quiet, show_json, show_table

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.letters import Letter, Retry, Wanted
    from kalinka_jms.ops.retry import Report
    from kalinka_jms.ops.tally import Buried

app = typer.Typer(invoke_without_command=True)

FINDING = 1

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
MaybeConfig = Annotated[Path | None, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Reason = Annotated[str, typer.Option(help="Only letters with this in their reason, in capitals or not.")]
Origin = Annotated[str, typer.Option(help="Only letters from here: a broker, broker/queue, a topic, topic/partition.")]
Device = Annotated[str, typer.Option(help="Only letters of this device: the key, or a level of the MQTT topic.")]
Since = Annotated[str, typer.Option(help="Only letters written since then: 2024-05-01T12:00, or 30min, 2h, 7d ago.")]
Until = Annotated[str, typer.Option(help="Only letters written until then, as --since.")]
Limit = Annotated[int, typer.Option(min=0, help="How many lines are shown; 0 shows all.")]
Records = Annotated[
    int, typer.Option(min=0, help="How many of the newest records are read, evenly of all partitions; 0 reads all.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be tried again.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.callback()
def dead(
    context: typer.Context,
    config: MaybeConfig = None,
    reason: Reason = "",
    origin: Origin = "",
    device: Device = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 50,
    records: Records = 1_000_000,
    as_json: Json = False,
) -> None:
    """List the reasons for which records and messages were buried, those with the most first.

    They lie in the dead-letter topic, byte for byte, each with its reason
    and where it came from in its headers; those that were tried again with
    success are not listed. docs/dead-letters.md tells what is in a letter.

    Example: kalinka dead --config kalinka.toml --since 2h

    Example: kalinka dead --config kalinka.toml --reason "no route" --json
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise typer.BadParameter("is missing", param_hint="--config")
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.ops import tally

    wanted = _wanted(reason, origin, device, since, until)
    letters, whole = _read(load(config), wanted, records)
    found = tally.dead(letters)
    some = found[: limit or None]
    if as_json:
        show_json({"complete": whole, "count": len(letters), "reasons": [asdict(one) for one in some]})
        return
    _list(some)
    _more(len(found), len(some), whole, records)


@app.command()
def retry(
    config: Config,
    reason: Reason = "",
    origin: Origin = "",
    device: Device = "",
    since: Since = "",
    until: Until = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Try letters again, all or some, after what was wrong has been mended.

    A message goes through the routes as they are now to its Kafka topic; a
    record goes back to the topic and partition that it came from. Both keep
    their kalinka.id and say in kalinka.attempt that this is another attempt.
    What fails once more becomes a letter again, one attempt older; nothing
    is tried again by itself. It may be interrupted, or run twice at a time:
    nothing is lost or doubled by that. The exit code is 1 when letters came
    back at once or could not be tried.

    Example: kalinka dead retry --config kalinka.toml --reason "no route" --dry-run

    Example: kalinka dead retry --config kalinka.toml --device wolverine --yes
    """
    quiet()
    from kalinka_jms.config import load

    settings = load(config)
    letters, _ = _read(settings, _wanted(reason, origin, device, since, until), 0)
    retried = _retry(settings) if letters else None
    if not as_json:
        _announce(letters)
    if retried is None or dry_run:
        if as_json:
            show_json({"letters": len(letters), "sent": {}, "back": {}, "left": {}})
        return
    if not yes:
        typer.confirm(f"Try {len(letters)} letters again?", abort=True, err=True)
    report = _carry_out(settings, retried, letters)
    _show(report, len(letters), as_json)
    if report.back or report.left:
        raise typer.Exit(FINDING)


def _wanted(reason: str, origin: str, device: str, since: str, until: str) -> Wanted:
    from kalinka_jms.ops.letters import Wanted

    now = time.time()
    return Wanted(reason, origin, device, _time(since, now, 0.0), _time(until, now, float("inf")))


def _time(text: str, now: float, default: float) -> float:
    """Seconds since the epoch. Raises BadParameter."""
    if not text:
        return default
    for unit, size in (("min", 60), ("s", 1), ("h", 3600), ("d", 86400)):
        number = text.removesuffix(unit).strip()
        if number != text and number.isdigit():
            return now - int(number) * size
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(f"{text!r}: a time like 2024-05-01T12:00, or 30min, 2h, 7d") from None


def _read(settings: Settings, wanted: Wanted, records: int) -> tuple[list[Letter], bool]:
    """The letters among the newest records, and whether those are all."""
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.letters import letters
    from kalinka_jms.ops.reader import newest, read

    with progress() as shown:
        shown.tell("asking Kafka")
        spans = Cluster(settings).spans([settings.dead])
        chosen = newest(spans, records)
        return letters(read(settings, chosen, shown.tell), wanted), chosen == spans


def _list(found: Sequence[Buried]) -> None:
    now = time.time()
    titles = ("RECORDS", "OLDEST", "NEWEST", "REASON", "FROM", "FOR EXAMPLE")
    rows = [
        (o.count, age(now - o.oldest), age(now - o.newest), o.reason, o.origin, ", ".join(o.examples)) for o in found
    ]
    show_table(titles, rows)


def _retry(settings: Settings) -> Retry:
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.letters import Retry
    from kalinka_jms.pub.sender import VerifiedUplinks
    from kalinka_jms.routes import Downlinks, Uplinks

    downlinks = Downlinks(settings.routes.down, settings.groups)
    there = Cluster(settings).look(downlinks.topics).topics
    partitions = {name: topic.partitions for name, topic in there.items()}
    uplinks = Uplinks(settings.routes.up, settings.groups)
    checked = VerifiedUplinks(uplinks) if settings.pub.verify_source else uplinks  # as `kalinka pub` does
    return Retry(checked, downlinks, settings.dead, partitions)


def _announce(letters: Sequence[Letter]) -> None:
    from kalinka_jms.ops import tally

    found = tally.dead(letters)
    show_table(("RECORDS", "REASON", "FROM"), [(one.count, one.reason, one.origin) for one in found])


def _carry_out(settings: Settings, retried: Retry, letters: Sequence[Letter]) -> Report:
    """Those of the letters that are still there when no other retry runs any more."""
    from kalinka_jms.ops.letters import Wanted
    from kalinka_jms.ops.reader import read
    from kalinka_jms.ops.retry import Writer

    writer = Writer(settings, retried)
    present = {letter.place for letter in _read(settings, Wanted(), 0)[0]}
    places = {letter.place for letter in letters} & present
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for partition, offset in places:
        first, end = spans.get((settings.dead, partition), (offset, 0))
        spans[settings.dead, partition] = min(first, offset), max(end, offset + 1)
    with progress() as shown:
        chosen = (record for record in read(settings, spans) if (record.partition(), record.offset()) in places)
        return writer.carry_out(chosen, lambda done: shown.tell(f"{done} of {len(places)} tried again"))


def _show(report: Report, letters: int, as_json: bool) -> None:
    if as_json:
        show_json({"letters": letters, **{name: dict(getattr(report, name)) for name in ("sent", "back", "left")}})
        return
    for topic, count in report.sent.items():
        typer.echo(f"{count} went to {topic}")
    for reason, count in report.back.items():
        typer.echo(f"{count} came back: {reason}")
    for reason, count in report.left.items():
        typer.echo(f"{count} left as they are: {reason}")


def _more(found: int, shown: int, whole: bool, records: int) -> None:
    if shown < found:
        typer.echo(f"the first {shown} of {found} reasons; --limit 0 shows all", err=True)
    if not whole:
        typer.echo(f"only the newest {records} records were read; --records 0 reads all", err=True)
