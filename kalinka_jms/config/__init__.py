"""Loads the one TOML file and checks it whole: every mistake is named, all at once, before anything starts."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from kalinka_jms.config import kafka_check, mistakes, route_check
from kalinka_jms.config.fields import ConfigValue, KafkaTable, flattened
from kalinka_jms.config.secret import Secret
from kalinka_jms.config.settings import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    Broker,
    DownRoute,
    Pub,
    Registry,
    Routes,
    Settings,
    Sub,
    UpRoute,
    Zookeeper,
    ZookeeperAuth,
)
from kalinka_jms.config.tls import Tls
from kalinka_jms.errors import ConfigError, Problem

__all__ = [
    "Broker",
    "ConfigValue",
    "DownRoute",
    "Pub",
    "Registry",
    "Routes",
    "Secret",
    "Settings",
    "Sub",
    "Tls",
    "UpRoute",
    "Zookeeper",
    "ZookeeperAuth",
    "load",
    "notes",
]

MAX_IN_FLIGHT = 30_000
"""Sends that may be in flight on one link. ActiveMQ evicts reports beyond the prefetch of a topic, 32,766 (tried)."""

_KAFKA: TypeAdapter[dict[str, ConfigValue]] = TypeAdapter(KafkaTable)
Model = TypeVar("Model", bound=BaseModel)


def load(path: Path | str) -> Settings:
    """The settings of a TOML file; relative paths in it count from its folder. Raises ConfigError: every mistake."""
    raw = _table(Path(path))
    context = {"base": Path(path).parent}
    settings, problems = _validated(raw, context)
    problems += [problem for problem in _meaning(raw, context) if problem not in problems]
    if problems or settings is None:
        raise ConfigError(str(path), tuple(problems))
    return settings


def notes(settings: Settings) -> tuple[Problem, ...]:
    """What is no mistake, but may not be meant."""
    return route_check.notes(settings.routes.up, settings.groups)


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        remedy = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        remedy = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        remedy = f"is not TOML: {error}"
    raise ConfigError(str(path), (Problem("", "", remedy),))


def _validated(raw: dict[str, Any], context: Mapping[str, Any]) -> tuple[Settings | None, list[Problem]]:
    try:
        return Settings.model_validate(raw, context=dict(context)), []
    except ValidationError as error:
        return None, mistakes.problems(error)


def _meaning(raw: dict[str, Any], context: Mapping[str, Any]) -> Iterator[Problem]:
    """Mistakes that types do not show, in all parts that are right by themselves."""
    brokers = raw.get("brokers")
    tables = [table if isinstance(table, dict) else {} for table in (brokers if isinstance(brokers, list) else ())]
    groups = sorted({str(table.get("group", "0")) for table in tables}) or ["0"]
    yield from _twice("name", tables)
    yield from _twice("stomp", tables)
    if isinstance(kafka := flattened(raw.get("kafka")), dict):
        yield from kafka_check.problems(_kafka_values(kafka, context))
    if (sub := _part(Sub, raw.get("sub", {}), context)) is not None:
        yield from _sub_problems(sub, groups)
    if (pub := _part(Pub, raw.get("pub", {}), context)) is not None and len(set(pub.queues)) < len(pub.queues):
        yield Problem("pub.queues", mistakes.shown(list(pub.queues)), "names a queue twice")
    yield from _route_problems(raw, groups, context)


def _route_problems(raw: dict[str, Any], groups: Sequence[str], context: Mapping[str, Any]) -> tuple[Problem, ...]:
    table = raw.get("routes", {})
    routes = table if isinstance(table, dict) else {}
    up = _items(UpRoute, routes["up"], context) if "up" in routes else [*enumerate(DEFAULT_UP)]
    down = _items(DownRoute, routes["down"], context) if "down" in routes else [*enumerate(DEFAULT_DOWN)]
    dead = raw.get("dead", "kalinka.dead")
    return route_check.problems(up, down, groups, dead if isinstance(dead, str) else "")


def _twice(key: str, tables: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for number, value in enumerate(table.get(key) for table in tables):
        earlier = first.setdefault(value, number) if isinstance(value, str) else number
        if earlier != number:
            yield Problem(f"brokers[{number}].{key}", mistakes.shown(value), f"is that of brokers[{earlier}] already")


def _sub_problems(sub: Sub, groups: Sequence[str]) -> Iterator[Problem]:
    known = ", ".join(f'"{group}"' for group in groups)
    for number, group in enumerate(sub.groups or ()):
        if group not in groups:
            yield Problem(f"sub.groups[{number}]", f'"{group}"', f"no broker has this group; should be one of {known}")
    if sub.transaction * sub.transactions_in_flight > MAX_IN_FLIGHT:
        remedy = f"times sub.transactions_in_flight = {sub.transactions_in_flight} should be at most {MAX_IN_FLIGHT}"
        yield Problem("sub.transaction", str(sub.transaction), remedy)


def _kafka_values(table: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, ConfigValue]:
    """The settings that are right by themselves."""
    values: dict[str, ConfigValue] = {}
    for key, value in table.items():
        with suppress(ValidationError):
            values |= _KAFKA.validate_python({key: value}, context=dict(context))
    return values


def _items(model: type[Model], raw: Any, context: Mapping[str, Any]) -> list[tuple[int, Model]]:
    """The items of a list that can be used, with their numbers."""
    parts = [(i, _part(model, item, context)) for i, item in enumerate(raw if isinstance(raw, list) else ())]
    return [(i, part) for i, part in parts if part is not None]


def _part(model: type[Model], raw: Any, context: Mapping[str, Any]) -> Model | None:
    """A table without the keys that are wrong by themselves; None where that leaves too little."""
    try:
        return model.model_validate(raw, context=dict(context))
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    rest = {key: value for key, value in raw.items() if key not in wrong} if isinstance(raw, dict) else {}
    with suppress(ValidationError):
        return model.model_validate(rest, context=dict(context))
    return None
