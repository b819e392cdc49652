"""The page on the configuration, from the models of the settings."""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kalinka_cli.reference.markdown import NOT_BY_HAND, code, fenced, table
from kalinka_jms.config.kafka_check import OWNED
from kalinka_jms.config.secret import Secret
from kalinka_jms.config.settings import (
    Broker,
    DownRoute,
    Pub,
    Registry,
    Settings,
    Sub,
    UpRoute,
    Zookeeper,
    ZookeeperAuth,
)
from kalinka_jms.config.tls import Tls

TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[[brokers]]", Broker),
    ("[brokers.tls] and [zookeeper.tls]", Tls),
    ("[zookeeper]", Zookeeper),
    ("[zookeeper.auth]", ZookeeperAuth),
    ("[pub]", Pub),
    ("[sub]", Sub),
    ("[registry]", Registry),
    ("[[routes.up]]", UpRoute),
    ("[[routes.down]]", DownRoute),
)
INTRODUCTION = """\
One TOML file holds the configuration of all services and of all instances. It is checked whole before anything
starts: `kalinka config check FILE` names every mistake at once, with the key, the value and what would be right, and
exits with 2 if there is one. The shortest file that works:
"""
SHORTEST = """\
[[brokers]]
name = "dev1"
stomp = "stomp://broker1.example:61613"

[kafka]
"bootstrap.servers" = "kafka1.example:9092"

[zookeeper]
hosts = "zk1.example:2181"
"""
COMMON = """\
- A **secret** is a text, `{ env = "NAME" }` or `{ file = "/path" }`. It is read afresh whenever a connection is made,
  so that a changed file counts at the next reconnect. No secret is ever shown, neither in logs nor in mistakes.
- A **path** that is not absolute counts from the folder of the configuration file.
- What a file does not give has its default. A list that it gives replaces the default one: with one `[[routes.up]]` of
  your own, the default routes up are gone, and those down stay.
"""
DEFAULT_ROUTES = "Without `[[routes.up]]` these count, and without `[[routes.down]]` those below them:"
KAFKA = """\
Any setting of librdkafka, for producers and consumers alike, as text, number, true, false or secret:
`"bootstrap.servers"`, `"security.protocol"`, `"sasl.username"`, `"ssl.ca.location"`, … The dots in a key may stand
without quotes, too: `bootstrap.servers = "…"` means the same. `"bootstrap.servers"` is the only one that is required.
Where the file says nothing, Kalinka sets these:
"""
OWN = "These cannot be set, because the promise rests on them:"


def page() -> str:
    """The whole page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield from (NOT_BY_HAND.format(source="the tables in kalinka_jms/config"), "# Configuration", "", INTRODUCTION)
    yield from fenced(SHORTEST, "toml")
    yield COMMON
    yield from ("## The whole file", "")
    yield from _fields(Settings)
    for title, model in TABLES:
        yield from (f"## `{title}`", "", inspect.cleandoc(model.__doc__ or ""), "")
        yield from _fields(model)
        if model is UpRoute:
            yield from _default_routes()
    yield from _kafka()


def _fields(model: type[BaseModel]) -> Iterator[str]:
    meanings = _meanings(model)
    rows = [
        (code(str(field.validation_alias or name)), _kind(field.annotation), _default(field), right, meanings[name])
        for name, field in model.model_fields.items()
        for right in (field.description or "",)
    ]
    yield from table(("key", "type", "default", "right is", "what it is"), rows)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field in the source."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(model)).body if isinstance(node, ast.ClassDef))
    found = {}
    for node, below in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            constant = below.value if isinstance(below, ast.Expr) else None
            found[node.target.id] = str(constant.value) if isinstance(constant, ast.Constant) else ""
    return found


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
        return "see below"
    return "none" if value is None else code(json.dumps(value))


def _kind(annotation: Any) -> str:
    """The type of a field, as TOML has it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in inner if part is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return _kind(inner[0])
    if origin is tuple:
        return "tables" if _kind(inner[0]) == "table" else f"list of {_kind(inner[0])}s"
    if origin is Literal:
        return "text"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    return {str: "text", bool: "true or false", int: "whole number", float: "number", Secret: "secret"}[annotation]


def _default_routes() -> Iterator[str]:
    from kalinka_jms.config.settings import DEFAULT_DOWN, DEFAULT_UP

    up = (f'[[routes.up]]\nfrom = "{r.from_}"\ntopic = "{r.topic}"\nkey = "{r.key}"\n' for r in DEFAULT_UP)
    down = (f'[[routes.down]]\nfrom = "{r.from_}"\nto = "{r.to}"\n' for r in DEFAULT_DOWN)
    yield from (DEFAULT_ROUTES, "")
    yield from fenced("\n".join([*up, *down]), "toml")


def _kafka() -> Iterator[str]:
    from kalinka_jms.kafka import CONSUMER, PRODUCER

    yield from ("## `[kafka]`", "", KAFKA)
    both = {key: value for key, value in PRODUCER.items() if CONSUMER.get(key) == value}
    rows = [(code(key), code(json.dumps(value)), "both") for key, value in both.items()]
    for who, given in (("producers", PRODUCER), ("consumers", CONSUMER)):
        rows += [(code(key), code(json.dumps(value)), who) for key, value in given.items() if key not in both]
    yield from table(("setting", "value", "of"), rows)
    yield from (OWN, "")
    yield from table(("setting", "why"), [(code(key), f"{reason}.") for key, reason in OWNED.items()])
