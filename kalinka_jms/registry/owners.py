"""Who owns a device now, read from the registry and kept up to date."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.mirror import Mirror
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.registry.zookeeper import Ensemble

log = logging.getLogger("kalinka.registry")

CAPACITY = 50_000
"""Devices kept; about 1.5 kB each."""


class Unknown(Enum):
    """The type of `UNKNOWN` (an enumeration, so that `is UNKNOWN` tells a type checker)."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
"""Nobody knows yet: neither that the device listens somewhere, nor that it does not."""

OnChange = Callable[[str, "Entry | None"], None]


class Directory(Protocol):
    """Where to ask who owns a device: `Owners`, and the fake of it."""

    @property
    def available(self) -> bool:
        """Whether the registry can be asked now; what is known goes on counting where it cannot."""

    def get(self, device: str) -> Entry | Unknown | None:
        """Where it listens (None: nowhere), or UNKNOWN. Never blocks; what was unknown is told when it is known."""

    def pin(self, device: str) -> None:
        """Keep the device: every change of it is told."""

    def unpin(self, device: str) -> None:
        """End `pin`."""


@dataclass(slots=True)
class _Device:
    path: str
    pinned: bool = False
    known: bool = False
    stored: Entry | None = None
    """As the registry has it."""
    shown: Entry | None = None
    """Without the brokers that are down."""


class Owners:
    """A cache of entries with watches. What `get` returned UNKNOWN, and every change of what is cached, comes through
    `on_change(device, entry)`, one at a time, on kazoo's thread for answers; it must not block.

    The parts of brokers that are down do not count. While ZooKeeper is away what is known stays known. The cache holds
    `capacity` devices, the last used; pinned ones and those that are waited for are held besides.
    """

    def __init__(self, client: Ensemble, root: str, on_change: OnChange, capacity: int = CAPACITY) -> None:
        self._client = client
        self._znodes = Znodes(root)
        self._on_change = on_change
        self._capacity = capacity
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._paths: dict[str, str] = {}  # path → device
        self._idle: OrderedDict[str, None] = OrderedDict()  # devices that may be let go, the last used last
        self._brokers: dict[str, str] = {}  # path → broker
        self._down: frozenset[str] = frozenset()
        self._mirror = Mirror(client, self._read)

    @property
    def available(self) -> bool:
        """Whether ZooKeeper can be asked now; what is known goes on counting where it cannot."""
        return self._client.connected

    def get(self, device: str) -> Entry | Unknown | None:
        """Where it listens (None: nowhere), or UNKNOWN. Never blocks."""
        with self._lock:
            known = self._devices.get(device)
            if known is not None:
                if device in self._idle:
                    self._idle.move_to_end(device)
                return known.shown if known.known else UNKNOWN
            path = self._add(device)
        self._mirror.add(path)
        return UNKNOWN

    def pin(self, device: str) -> None:
        """Keep the device (one with a backlog): every change of it is told, from now on."""
        with self._lock:
            path = None if device in self._devices else self._add(device)
            self._devices[device].pinned = True
            self._idle.pop(device, None)
        if path:
            self._mirror.add(path)

    def unpin(self, device: str) -> None:
        """End `pin`."""
        with self._lock:
            known = self._devices.get(device)
            if known is None or not known.pinned:
                return
            known.pinned = False
            gone = self._rest(device, known)
        self._drop(gone)

    @property
    def cached(self) -> int:
        """Devices of which something is known, or was asked."""
        return len(self._devices)

    def close(self) -> None:
        """End all watching."""
        self._mirror.close()

    def _add(self, device: str) -> str:
        path = self._znodes.device(device)
        self._devices[device] = _Device(path)
        self._paths[path] = device
        return path

    def _rest(self, device: str, known: _Device) -> list[str]:
        """Make a device one that may be let go, if it is known and not pinned; the paths of those that are."""
        if not known.known or known.pinned:
            return []
        self._idle[device] = None
        gone = []
        while len(self._idle) > self._capacity:
            oldest, _ = self._idle.popitem(last=False)
            gone.append(self._devices.pop(oldest).path)
            del self._paths[gone[-1]]
        return gone

    def _drop(self, paths: list[str]) -> None:
        for path in paths:
            self._mirror.drop(path)

    def _read(self, path: str, data: bytes | None) -> None:
        if path in self._brokers:
            self._read_broker(self._brokers[path], data)
        else:
            self._read_device(path, _entry(path, data))

    def _read_device(self, path: str, entry: Entry | None) -> None:
        with self._lock:
            device = self._paths.get(path)
            if device is None:
                return
            known = self._devices[device]
            first, before = not known.known, known.shown
            known.known, known.stored, known.shown = True, entry, self._counting(entry)
            gone = self._rest(device, known) if first else []
            fresh = self._new_brokers(entry)
        self._drop(gone)
        for broker in fresh:
            self._mirror.add(broker)
        if first or known.shown != before:
            self._on_change(device, known.shown)

    def _read_broker(self, broker: str, data: bytes | None) -> None:
        with self._lock:
            down = self._down | {broker} if is_down(data) else self._down - {broker}
            if down == self._down:
                return
            self._down = down
            changes = [(device, known) for device, known in self._devices.items() if self._shifted(known)]
        log.info("broker %s counts %s", broker, "no more" if broker in down else "again", extra={"broker": broker})
        for device, known in changes:
            self._on_change(device, known.shown)

    def _shifted(self, known: _Device) -> bool:
        """Count afresh; whether that changes anything."""
        before, known.shown = known.shown, self._counting(known.stored)
        return known.known and known.shown != before

    def _counting(self, entry: Entry | None) -> Entry | None:
        return (entry.without(self._down) or None) if entry else None

    def _new_brokers(self, entry: Entry | None) -> list[str]:
        """The states of brokers that are not read yet. Until they are, a broker counts."""
        names = {self._znodes.broker(name): name for name in (entry.brokers if entry else ())}
        fresh = [path for path in names if path not in self._brokers]
        self._brokers |= {path: names[path] for path in fresh}
        return fresh


def _entry(path: str, data: bytes | None) -> Entry | None:
    if data is None:
        return None
    try:
        return Entry.decode(data) or None
    except RegistryError as error:
        log.error("%s counts as absent: %s", path, error)
        return None


def is_down(data: bytes | None) -> bool:
    """Whether a broker's state, as its watcher wrote it, says that it does not count."""
    try:
        state: Any = json.loads(data or b"{}")
        return isinstance(state, dict) and state.get("state") == "down"
    except ValueError:
        return False
