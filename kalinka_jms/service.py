"""Runs services in the foreground: start order, signals, stop order."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Protocol

from prometheus_client import CollectorRegistry

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, Problem
from kalinka_jms.health import Checked, Health
from kalinka_jms.metrics.collector import Samples, own_process
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.metrics.process import samples
from kalinka_jms.metrics.server import serving
from kalinka_jms.pub.members import Members
from kalinka_jms.pub.pub import Pub
from kalinka_jms.registry import Client, connect, figures
from kalinka_jms.registry.beacon import Beacon
from kalinka_jms.registry.watch import Watch
from kalinka_jms.sub.sub import Sub
from kalinka_jms.systemd import Systemd

log = logging.getLogger("kalinka.service")

SERVICES = ("registry", "sub", "pub")
"""In the order in which they start: who listens where is known before anything is sent, and what devices publish is
taken last. They stop the other way round."""

LOOK = 0.2
"""Seconds between looks at whether a service has become ready, or failed."""


LEAVE = 20.0
"""Seconds that watchers have to write what has come and to resign. Longer than an answer of ZooKeeper is waited for;
kazoo's lock waits for ever while ZooKeeper is away, though a place that is not given back ends with the session."""

START = 30.0
"""Seconds after which systemd hears that the service has started even where it still waits for a server: to start it
again would not help, and to wait longer would hold up everything that comes after it."""


class Service(Checked, Protocol):
    """One side of the bridge, running in threads of its own."""

    def start(self) -> None: ...

    def samples(self) -> Iterable[Sample]:
        """Its metrics, from any thread: what belongs together is of one moment."""

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
    def waiting_for(self) -> tuple[str, ...]:
        return tuple(f"the broker {name}, or Kafka" for name, up in self._pub.links.items() if not up)

    @property
    def turned(self) -> float | None:
        return self._pub.turned

    @property
    def failed(self) -> bool:
        return self._pub.failed

    def stop(self) -> None:
        self._members.stop()
        self._pub.stop()
        self._pub.join()
        self._members.join()

    def samples(self) -> Iterable[Sample]:
        return self._pub.samples()

    def _preferred(self, broker: str) -> bool:
        return self._members.preferred(broker)


class SubService:
    name = "sub"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._sub = Sub(settings, client)

    def start(self) -> None:
        self._sub.start()

    @property
    def waiting_for(self) -> tuple[str, ...]:
        return self._sub.waiting_for

    @property
    def turned(self) -> float | None:
        return self._sub.turned

    @property
    def failed(self) -> bool:
        return self._sub.failure is not None

    def samples(self) -> Iterable[Sample]:
        return self._sub.samples()

    def stop(self) -> None:
        self._sub.stop()
        self._sub.join()
        log.info("outcomes", extra={"taken": self._sub.books.taken} | self._sub.books.summary())


class RegistryService:
    name = "registry"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._client = client
        self._watches = [Watch(broker, settings, client) for broker in settings.brokers]

    def start(self) -> None:
        for watch in self._watches:
            watch.start()

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """One that only stands by is as ready as it can be."""
        zookeeper = () if self._client.connected else ("ZooKeeper",)
        unsettled = (watch.broker.name for watch in self._watches if watch.elected and not watch.settled)
        return (*zookeeper, *(f"the broker {name}" for name in unsettled))

    @property
    def turned(self) -> float | None:
        turns = [watch.turned for watch in self._watches]
        return min((turn for turn in turns if turn is not None), default=None)

    def samples(self) -> Iterable[Sample]:
        return figures.samples(self._watches)

    @property
    def failed(self) -> bool:
        return False

    def stop(self) -> None:
        for watch in self._watches:
            watch.stop()
        deadline = time.monotonic() + LEAVE
        for watch in self._watches:
            watch.join(max(deadline - time.monotonic(), 0.0))


GARBAGE = 50_000
"""Objects until Python looks for circles of garbage. Messages make none; with its default of 700 the looking took an
eighth of the time of `sub` (tried)."""

M_ARENA_MAX = -8
"""The name of this parameter in glibc's malloc.h."""

_MAKERS: dict[str, Callable[[Settings, Client], Service]] = {
    "registry": RegistryService,
    "sub": SubService,
    "pub": PubService,
}


def run(settings: Settings, names: Sequence[str], metrics: tuple[str, int] | None = None) -> int:
    """Run the named services until SIGTERM or SIGINT; return the exit code (1 when a service failed by itself).

    `metrics`: host and port where metrics and health are served. A second signal ends the process at once. Raises
    ConfigError when that port cannot be taken, ConfigError or RegistryError when ZooKeeper's settings are no good.
    """
    _set_up_memory()
    stop = threading.Event()
    _on_signals(stop)
    systemd = Systemd()
    with contextlib.ExitStack() as ends:  # the other way round, and all of them, whatever one of them raises
        ends.callback(log.info, "stopped")
        services: list[Service] = []
        health = Health(services)
        collectors = CollectorRegistry()
        if metrics is not None:
            host, port = ends.enter_context(serving(metrics, health, collectors))
            log.info("metrics", extra={"address": f"{host}:{port}"})
        client = _connected(settings)
        ends.callback(client.stop)
        services += [_MAKERS[name](settings, client) for name in SERVICES if name in names]
        own_process(collectors)
        collectors.register(Samples(lambda: samples(health, client.connected), *(one.samples for one in services)))
        if metrics is not None:
            beacon = Beacon(client, settings.zookeeper.root, (host, port), [service.name for service in services])
            beacon.start()
            ends.callback(beacon.stop)
        for service in services:
            service.start()
            ends.callback(service.stop)
        try:
            return _watch(services, client, stop, health, systemd)
        finally:
            health.stopping = True
            systemd.stopping()


def _connected(settings: Settings) -> Client:
    """A session with ZooKeeper that comes up in the background."""
    try:
        return connect(settings.zookeeper, timeout=None)
    except ValueError as error:
        raise ConfigError("[zookeeper]", (Problem("zookeeper", "", str(error)),)) from error


def _watch(services: Sequence[Service], client: Client, stop: threading.Event, health: Health, systemd: Systemd) -> int:
    """Wait for the end; tell once when each service is ready, and systemd how all of them stand."""
    waiting = list(services)
    started: float | None = time.monotonic() + START
    while not stop.wait(LOOK):
        for service in [service for service in waiting if not service.waiting_for]:
            waiting.remove(service)
            log.info("ready", extra={"service": service.name})
        if any(service.failed for service in services):
            return 1
        if (failure := client.failure) is not None:
            log.error("%s", failure)
            return 1
        if started is not None and (not waiting or time.monotonic() >= started):
            started = None
            systemd.ready()
        _tell(health, systemd)
    return 0


def _tell(health: Health, systemd: Systemd) -> None:
    lacking = [text for service in health.services for text in service.waiting_for]
    systemd.status(f"waiting for {', '.join(lacking)}" if lacking else "ready")
    if health.healthy().yes:
        systemd.alive()


def _set_up_memory() -> None:
    """Look for garbage rarely, and have one heap for all threads.

    glibc has several, and each keeps what passed through it: 20 MB for a device that does not read left 85 MiB behind,
    with one heap 27 (resident memory of `sub`, tried). Elsewhere, and where the environment says how, nothing is done.
    """
    gc.freeze()  # what is there stays
    gc.set_threshold(GARBAGE)
    if not os.environ.keys() & {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}:
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _on_signals(stop: threading.Event) -> None:
    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    faulthandler.register(signal.SIGUSR1)  # where every thread stands, for somebody who finds nothing moving
