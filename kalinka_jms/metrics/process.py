"""The metrics that every process of Kalinka has."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from kalinka_jms import __version__
from kalinka_jms.health import Health
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.metric import Sample


def samples(health: Health, zookeeper: bool) -> Iterator[Sample]:
    """What runs, and how it stands; `zookeeper`: whether the session with it is up."""
    yield Sample(catalogue.BUILD, (__version__, platform.python_version()), 1)
    ready, healthy = health.ready(), health.healthy()
    for service in health.services:
        yield Sample(catalogue.READY, (service.name,), not ready.services[service.name]["waiting for"])
        yield Sample(catalogue.HEALTHY, (service.name,), not healthy.services[service.name]["ailment"])
    yield Sample(catalogue.ZOOKEEPER, (), zookeeper)
