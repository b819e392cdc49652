"""Runs services in the foreground: start order, signals, stop order."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, Problem
from kalinka_jms.pub.members import Members
from kalinka_jms.pub.pub import Pub
from kalinka_jms.registry import Client, connect
from kalinka_jms.registry.watch import Watch
from kalinka_jms.sub.sub import Sub

log = logging.getLogger("kalinka.service")

SERVICES = ("registry", "sub", "pub")
"""In the order in which they start: who listens where is known before anything is sent, and what devices publish is
taken last. They stop the other way round."""

LOOK = 0.2
"""Seconds between looks at whether a service has become ready, or failed."""


class Service(Protocol):
    """One side of the bridge, running in threads of its own."""

    name: str

    def start(self) -> None: ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def failed(self) -> bool: ...

    def stop(self) -> None:
        """Finish what is in flight, acknowledge and commit it, leave. Returns when that is done."""


class PubService:
    name = "pub"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._pub = Pub(settings, self._preferred)
        self._members = Members(client, settings.zookeeper.root, lambda: self._pub.links)

    def start(self) -> None:
        self._pub.start()
        self._members.start()

    @property
    def is_ready(self) -> bool:
        return all(self._pub.links.values())

    @property
    def failed(self) -> bool:
        return self._pub.failed

    def stop(self) -> None:
        self._members.stop()
        self._pub.stop()
        self._pub.join()
        self._members.join()

    def _preferred(self, broker: str) -> bool:
        return self._members.preferred(broker)


class SubService:
    name = "sub"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._sub = Sub(settings, client)

    def start(self) -> None:
        self._sub.start()

    @property
    def is_ready(self) -> bool:
        return self._sub.ready.is_set()

    @property
    def failed(self) -> bool:
        return self._sub.failure is not None

    def stop(self) -> None:
        self._sub.stop()
        self._sub.join()
        log.info("outcomes", extra={"taken": self._sub.books.taken} | self._sub.books.summary())


class RegistryService:
    name = "registry"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._watches = [Watch(broker, settings, client) for broker in settings.brokers]

    def start(self) -> None:
        for watch in self._watches:
            watch.start()

    @property
    def is_ready(self) -> bool:
        return True  # one that only stands by is as ready as it can be

    @property
    def failed(self) -> bool:
        return False

    def stop(self) -> None:
        for watch in self._watches:
            watch.stop()
        for watch in self._watches:
            watch.join()


_MAKERS: dict[str, Callable[[Settings, Client], Service]] = {
    "registry": RegistryService,
    "sub": SubService,
    "pub": PubService,
}


def run(settings: Settings, names: Sequence[str]) -> int:
    """Run the named services until SIGTERM or SIGINT; return the exit code (1 when a service failed by itself).

    A second signal ends the process at once. Raises ConfigError or RegistryError when ZooKeeper's settings are no good.
    """
    stop = threading.Event()
    _on_signals(stop)
    with contextlib.ExitStack() as ends:  # the other way round, and all of them, whatever one of them raises
        ends.callback(log.info, "stopped")
        client = _connected(settings)
        ends.callback(client.stop)
        services = [_MAKERS[name](settings, client) for name in SERVICES if name in names]
        for service in services:
            service.start()
            ends.callback(service.stop)
        return _watch(services, client, stop)


def _connected(settings: Settings) -> Client:
    """A session with ZooKeeper that comes up in the background."""
    try:
        return connect(settings.zookeeper, timeout=None)
    except ValueError as error:
        raise ConfigError("[zookeeper]", (Problem("zookeeper", "", str(error)),)) from error


def _watch(services: Sequence[Service], client: Client, stop: threading.Event) -> int:
    """Wait for the end; tell once when each service is ready."""
    waiting = list(services)
    while not stop.wait(LOOK):
        for service in [service for service in waiting if service.is_ready]:
            waiting.remove(service)
            log.info("ready", extra={"service": service.name})
        if any(service.failed for service in services):
            return 1
        if (failure := client.failure) is not None:
            log.error("%s", failure)
            return 1
    return 0


def _on_signals(stop: threading.Event) -> None:
    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
