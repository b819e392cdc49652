"""Loads the one TOML file and checks it whole: every mistake is named, all at once, before anything starts."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from kalinka_jms.errors import ConfigError, Problem
from kalinka_jms.fields import ConfigValue
from kalinka_jms.secret import Secret
from kalinka_jms.settings import (
    Broker,
    DownRoute,
    Pub,
    Registry,
    Routes,
    Settings,
    Sub,
    Tls,
    UpRoute,
    Zookeeper,
    ZookeeperAuth,
)

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
]


def load(path: Path | str) -> Settings:
    """The settings of a TOML file. Raises ConfigError with every mistake in it."""
    raw = tomllib.loads(Path(path).read_text("utf-8"))
    try:
        return Settings.model_validate(raw, context={"base": Path(path).parent})
    except ValidationError as error:
        problems = tuple(Problem(".".join(map(str, e["loc"])), "", e["msg"]) for e in error.errors())
        raise ConfigError(str(path), problems) from None
