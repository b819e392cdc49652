"""All checks of an installation, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kalinka_jms.checks import broker, kafka, zookeeper
from kalinka_jms.checks.finding import Finding
from kalinka_jms.config import Settings

AT_ONCE = 16
"""Servers that are looked at side by side."""


def check(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
    """What is found, in the order of the configuration; `tell` hears what is waited for."""
    parts = [(one.name, partial(broker.check, settings, one)) for one in settings.brokers]
    parts += [(kafka.WHERE, partial(kafka.check, settings)), (zookeeper.WHERE, partial(zookeeper.check, settings))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [(name, pool.submit(_all, part)) for name, part in parts]
        for name, answer in answers:
            tell(f"looking at {name}")
            yield from answer.result()


def _all(part: Callable[[], Iterator[Finding]]) -> list[Finding]:
    return list(part())
