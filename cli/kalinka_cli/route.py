"""`kalinka route`: routes, tried on samples."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kalinka_jms.ops.explain import Explainer, Way

app = typer.Typer(no_args_is_help=True, help="Routes, tried on samples.")

FINDING = 1

Samples = Annotated[
    list[str] | None,
    typer.Argument(metavar="TOPIC", show_default=False, help='MQTT topics; with --down "KAFKA_TOPIC KEY".'),
]
Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
File = Annotated[str | None, typer.Option("--file", "-f", help="A file with one sample a line; - is standard input.")]
DownWay = Annotated[bool, typer.Option("--down", help='The samples are records: "KAFKA_TOPIC KEY [SOURCE]".')]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line, for programs.")]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="How many partitions the topics have, to see which one it is.")
]


@app.callback()
def route() -> None:
    """Routes, tried on samples.

    Example: kalinka route try mqtt/beast/sparkcluster/pub --config kalinka.toml
    """


@app.command("try")
def try_routes(
    config: Config,
    samples: Samples = None,
    file: File = None,
    down: DownWay = False,
    partitions: Partitions = None,
    as_json: Json = False,
) -> None:
    """Feed sample topics through the routes and show where each goes.

    Empty lines, and lines that begin with "# ", are passed over. The parts
    of a record are parted by tabs, or by blanks where there is no tab. The
    exit code is 1 when one of the samples is refused. No server is asked.

    Example: kalinka route try mqtt/beast/mqtt/wolverine/pub mqtt/beast/sparkcluster/pub --config kalinka.toml

    Example: kalinka route try --down "0.sparkcluster.mqtt wolverine" --config kalinka.toml

    Example: grep -oh 'mqtt/.*/pub' *.log | kalinka route try --file - --config kalinka.toml
    """
    if not samples and file is None:
        raise typer.BadParameter("give topics, or --file FILE, or --file - for standard input")
    from kalinka_jms.config import load
    from kalinka_jms.ops.explain import Explainer

    explainer = Explainer(load(config), lambda _: partitions)
    tried = refused = 0
    for sample in _samples(samples or [], file):
        way = _way(explainer, sample, down)
        tried += 1
        refused += way.refusal is not None
        typer.echo(_json(sample, way) if as_json else f"{sample}  ->  {_brief(way)}")
    typer.echo(f"{tried} tried, {refused} refused", err=True)
    if refused:
        raise typer.Exit(FINDING)


def _samples(given: list[str], file: str | None) -> Iterator[str]:
    yield from given
    if file == "-":
        yield from _useful(sys.stdin.buffer)
    elif file is not None:
        try:
            with Path(file).open("rb") as lines:
                yield from _useful(lines)
        except OSError as error:
            raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="--file") from None


def _useful(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        text = os.fsdecode(line.rstrip(b"\r\n"))
        if text.strip() and not text.startswith("# "):
            yield text


def _way(explainer: Explainer, sample: str, down: bool) -> Way:
    if not down:
        return explainer.message(sample)
    topic, key, source = _parts(sample)
    return explainer.record(topic, os.fsencode(key), source)


def _parts(sample: str) -> tuple[str, str, str | None]:
    """An id may hold blanks inside, so whoever has such ids writes tabs."""
    parts = sample.split("\t") if "\t" in sample else sample.split()
    if len(parts) not in (2, 3):
        raise typer.BadParameter(f'{sample!r} should be "KAFKA_TOPIC KEY" or "KAFKA_TOPIC KEY SOURCE"')
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def _brief(way: Way) -> str:
    from kalinka_jms.ops.explain_text import brief

    return brief(way)


def _json(sample: str, way: Way) -> str:
    import json
    from dataclasses import asdict

    return json.dumps({"sample": sample} | asdict(way), ensure_ascii=False)
