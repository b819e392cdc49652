"""Who listens on one broker, from its consumer advisories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kalinka_jms.registry.advisories import Begun, Ended, Filter
from kalinka_jms.registry.entry import Entry, Part

__all__ = ["Change", "Entry", "Filter", "Part", "Presence", "Roster"]

RUNS = 100
"""Runs of connection numbers that are remembered: one for each protocol of the broker, and each OpenWire client's."""

Presence = Callable[[str], "tuple[str, ...] | None"]
"""The devices that a filter (JMS form) names at their place in a down route; none if it takes devices' topics and names
nobody, None if it has nothing to do with them."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one device on this broker: its part now (None: it listens no more)."""

    device: str
    part: Part | None
    live: bool
    """Whether this shows that the device came to this broker just now (and not only that it is still there)."""


class Roster:
    """Where devices listen on one broker.

    Advisories go in, changes come out. Between `begin` (just before SUBSCRIBE) and `settle` (the echo) the broker
    replays what is there, in any order and mixed with what happens meanwhile. In the first replay all changes wait for
    `settle`: before that a device's part is not whole. Later what a replay shows counts at once, and what it did not
    show is removed at `settle`. So is a device whose last known subscription ends meanwhile: the replay may still show
    another one of it, begun while there was no link, and a part that was gone would come back as the oldest. A
    consumer's id is never used twice, so once it ended a late word of its beginning is a ghost.

    `seen` is the highest connection number of each run that was ever seen. A consumer that a replay shows came to this
    broker at some unknown time: it counts as new (`Change.live`) only if its connection is younger than that.
    """

    def __init__(self, broker: str, presence: Presence, seen: Mapping[str, int] | None = None) -> None:
        self.broker = broker
        self._presence = presence
        self._seen = dict(seen or {})
        self._filters: dict[str, Filter] = {}
        self._devices: dict[str, dict[str, Filter]] = {}
        self._strangers: dict[str, Filter] = {}
        self._replay: _Replay | None = None
        self._whole = False

    def __len__(self) -> int:
        return len(self._devices)

    def __contains__(self, device: object) -> bool:
        return device in self._devices

    @property
    def seen(self) -> Mapping[str, int]:
        """The highest connection number seen, by run; kept with the broker's state for the next watcher."""
        return dict(self._seen)

    @property
    def eavesdroppers(self) -> tuple[Filter, ...]:
        """Subscriptions over the devices' topics that name no device: they prove nothing, and they hide absence."""
        return tuple(self._strangers.values())

    @property
    def replaying(self) -> bool:
        """Whether a replay is going on."""
        return self._replay is not None

    def part(self, device: str) -> Part | None:
        """Where the device listens on this broker, or None."""
        filters = self._devices.get(device)
        return Part(self.broker, tuple(sorted(filters.values(), key=lambda f: f.consumer))) if filters else None

    def feed(self, advisory: Begun | Ended) -> tuple[Change, ...]:
        """Take the next advisory; what it changes."""
        live, devices = self._begun(advisory.filter) if isinstance(advisory, Begun) else self._ended(advisory.consumer)
        if self._replay is not None:
            waiting = tuple(device for device in devices if not self._whole or device not in self._devices)
            self._replay.hold(waiting, live)
            devices = tuple(device for device in devices if device not in waiting)
        return self._changes(dict.fromkeys(devices, live))

    def begin(self) -> None:
        """A subscription is about to be made, and its replay with it. One that was not finished is forgotten."""
        self._replay = _Replay(held=self._replay.held if self._replay and self._whole else {})
        if not self._whole:
            for known in (self._filters, self._devices, self._strangers):
                known.clear()

    def settle(self) -> tuple[Change, ...]:
        """The replay is complete; what changes by that."""
        replay, self._replay, self._whole = self._replay or _Replay(), None, True
        for run, number in replay.seen.items():
            self._remember(run, number)
        known = self._filters.keys() | self._strangers.keys()
        for consumer in known - replay.shown:
            replay.hold(self._drop(consumer), live=False)
        return self._changes(replay.held)

    def _changes(self, devices: Mapping[str, bool]) -> tuple[Change, ...]:
        return tuple(Change(device, self.part(device), live) for device, live in devices.items())

    def _ended(self, consumer: str) -> tuple[bool, tuple[str, ...]]:
        if self._replay is not None:
            self._replay.ended.add(consumer)
        return False, self._drop(consumer)

    def _begun(self, filter: Filter) -> tuple[bool, tuple[str, ...]]:
        devices = self._presence(filter.topic)
        if devices is None:
            return False, ()
        run, number = filter.connection
        replay, live = self._replay, True
        if replay is None:
            self._remember(run, number)
        elif filter.consumer in replay.ended:
            return False, ()
        else:
            replay.shown.add(filter.consumer)
            replay.seen[run] = max(number, replay.seen.get(run, 0))
            live = number > self._seen.get(run, -1)
        return live, self._put(filter, devices)

    def _put(self, filter: Filter, devices: tuple[str, ...]) -> tuple[str, ...]:
        """Take a consumer in; the devices for which that is news."""
        if filter.consumer in self._filters or filter.consumer in self._strangers:
            return ()
        (self._filters if devices else self._strangers)[filter.consumer] = filter
        for device in devices:
            self._devices.setdefault(device, {})[filter.consumer] = filter
        return devices

    def _drop(self, consumer: str) -> tuple[str, ...]:
        """Let a consumer go; the devices for which that is news."""
        self._strangers.pop(consumer, None)
        filter = self._filters.pop(consumer, None)
        devices = (self._presence(filter.topic) if filter else None) or ()
        for device in devices:
            filters = self._devices[device]
            del filters[consumer]
            if not filters:
                del self._devices[device]
        return devices

    def _remember(self, run: str, number: int) -> None:
        self._seen[run] = max(number, self._seen.pop(run, -1))  # the run used last stands last
        if len(self._seen) > RUNS:
            del self._seen[next(iter(self._seen))]


@dataclass(slots=True)
class _Replay:
    """What a replay told so far. What it saw counts as seen only when it is complete: it comes in any order."""

    shown: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    held: dict[str, bool] = field(default_factory=dict)
    """Devices whose changes wait, and whether they are live."""

    def hold(self, devices: Iterable[str], live: bool) -> None:
        for device in devices:
            self.held[device] = live or self.held.get(device, False)
