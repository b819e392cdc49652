"""`kalinka devices`: where devices listen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kalinka_cli.output import progress, quiet, show_json, show_table

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.census import Census
    from kalinka_jms.registry.advisories import Filter
    from kalinka_jms.registry.entry import Entry
    from kalinka_jms.registry.zookeeper import Client

FINDING = 1
TITLES = ("DEVICE", "BROKER", "LISTENS TO", "SESSION")

Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
Device = Annotated[str | None, typer.Argument(show_default=False, help="One device; all of them without it.")]
BrokerName = Annotated[str | None, typer.Option("--broker", help="Only those that listen at this broker.")]
Match = Annotated[str, typer.Option(help="Only those whose name this takes: * is any text, ? one character.")]
Limit = Annotated[int, typer.Option(min=0, help="How many are shown; 0 shows all.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with every change until Ctrl-C.")]
Json = Annotated[bool, typer.Option("--json", help="JSON, for programs; with --follow one document a line.")]


def devices(
    config: Config,
    device: Device = None,
    broker: BrokerName = None,
    match: Match = "*",
    limit: Limit = 100,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Show where devices listen, as the registry has it: at which broker, to what, with what session.

    Of several brokers the one where the device began to listen last comes
    first: there its records go. With a DEVICE the exit code is 1 when it
    listens nowhere.

    Example: kalinka devices --config kalinka.toml --match "press-*" --broker dev2

    Example: kalinka devices wolverine --config kalinka.toml --follow
    """
    quiet()
    from kalinka_jms.config import load
    from kalinka_jms.ops.census import Census

    settings = load(config)
    names = [one.name for one in settings.brokers]
    if broker is not None and broker not in names:
        raise typer.BadParameter(f"there is no {broker}; there are {', '.join(names)}", param_hint="--broker")
    with session(settings) as client:
        look = _Look(Census(client, settings.zookeeper.root), names, device, match, broker)
        count = look.show(limit, as_json, lines=follow)
        if follow:
            look.follow(as_json)
    if device is not None and not count:
        typer.echo(f"{device} {'listens nowhere' if broker is None else f'does not listen at {broker}'}", err=True)
        raise typer.Exit(FINDING)


@contextmanager
def session(settings: Settings) -> Iterator[Client]:
    """A session with ZooKeeper for one command."""
    from kalinka_jms.registry.zookeeper import connect

    with progress() as shown:
        shown.tell("connecting to ZooKeeper")
        client = connect(settings.zookeeper, 10.0)
    try:
        yield client
    finally:
        client.stop()


class _Look:
    """The devices that were asked for, and how they are shown."""

    def __init__(self, census: Census, brokers: list[str], device: str | None, match: str, broker: str | None) -> None:
        self._census = census
        self._down = census.down(brokers)
        self._device = device
        self._match = match if device is None else device.replace("[", "[[]")
        self._broker = broker
        self._told: dict[str, Entry] = {}

    def show(self, limit: int, as_json: bool, lines: bool) -> int:
        """What is there now; how many devices that is."""
        with progress() as shown:
            names = [self._device] if self._device is not None else self._census.names(self._match)
            found = (pair for pair in self._census.entries(names, shown.tell) if self._wanted(pair[1]))
            some = list(islice(found, limit or None))
            more = next(found, None) is not None
        self._told = dict(some)
        if as_json and lines:
            for name, entry in some:
                _line(name, entry, self._down)
        elif as_json:
            show_json([_document(name, entry, self._down) for name, entry in some])
        elif some or self._device is None:
            show_table(TITLES, _rows(some, self._down))
        if more:
            of = f" of {len(names)}" if self._broker is None else ""
            typer.echo(f"the first {len(some)}{of} devices; --limit 0 shows all", err=True)
        return len(some)

    def follow(self, as_json: bool) -> None:
        """Every change, until Ctrl-C."""
        known = {name: entry.without(self._down) for name, entry in self._told.items()}
        try:
            for name, entry in self._census.follow(self._match, known):
                if self._broker is not None and not self._concerns(name, entry):
                    continue
                if as_json:
                    _line(name, entry, frozenset())
                else:
                    typer.echo(f"{time.strftime('%H:%M:%S')}  {name}  {_where(entry)}")
        except KeyboardInterrupt:
            return

    def _wanted(self, entry: Entry) -> bool:
        return self._broker is None or self._broker in entry.brokers

    def _concerns(self, name: str, entry: Entry | None) -> bool:
        """Whether it listens at the broker, or did before."""
        before = self._told.pop(name, None)
        if entry is not None:
            self._told[name] = entry
        return any(one is not None and self._wanted(one) for one in (before, entry))


def _rows(found: Iterable[tuple[str, Entry]], down: frozenset[str]) -> Iterator[tuple[str, str, str, str]]:
    from kalinka_jms.names import to_mqtt

    for name, entry in found:
        shown = name
        for part in entry.parts:
            broker = f"{part.broker} (down)" if part.broker in down else part.broker
            sessions = ", ".join(dict.fromkeys(map(_session, part.filters)))
            yield shown, broker, ", ".join(dict.fromkeys(to_mqtt(one.topic) for one in part.filters)), sessions
            shown = ""


def _where(entry: Entry | None) -> str:
    from kalinka_jms.names import to_mqtt

    parts = entry.parts if entry else ()
    told = (f"{part.broker} ({', '.join(to_mqtt(one.topic) for one in part.filters)})" for part in parts)
    return ", ".join(told) or "nowhere"


def _session(filter: Filter) -> str:
    if filter.subscription is None:
        return "clean"
    return "persistent" if filter.qos is None else f"persistent, QoS {filter.qos}"


def _line(name: str, entry: Entry | None, down: frozenset[str]) -> None:
    typer.echo(json.dumps(_document(name, entry, down), ensure_ascii=False))


def _document(name: str, entry: Entry | None, down: frozenset[str]) -> dict[str, Any]:
    from kalinka_jms.names import to_mqtt

    return {
        "device": name,
        "brokers": [
            {
                "name": part.broker,
                "counts": part.broker not in down,
                "filters": [
                    {"filter": to_mqtt(one.topic), "persistent": one.subscription is not None, "qos": one.qos}
                    for one in part.filters
                ],
            }
            for part in (entry.parts if entry else ())
        ],
    }
