"""The registry in memory, as those who read it see it: who listens where, said by a test and not by advisories."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from kalinka_jms.names import to_jms
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Entry, Part
from kalinka_jms.registry.owners import UNKNOWN, Unknown

OnChange = Callable[[str, "Entry | None"], None]


class FakeRegistry:
    """What is registered. Every change is told at once, on the thread that makes it."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.down: set[str] = set()
        self._readers: list[FakeOwners] = []
        self._numbers = itertools.count(1)

    def owners(self, on_change: OnChange, *, knows: bool = True) -> FakeOwners:
        """A reader. With `knows=False` it answers UNKNOWN until `learn`, as one whose ZooKeeper is away does."""
        self._readers.append(FakeOwners(self, on_change, knows))
        return self._readers[-1]

    def listen(self, device: str, broker: str, *filters: str, clean: bool = True) -> None:
        """The device comes to the broker and listens there, to these MQTT filters or to those of the default routes."""
        names = filters or (f"mqtt/+/mqtt/{device}/sub", f"sparkcluster/mqtt/{device}/sub")
        connection = f"ID:{broker}-4:{next(self._numbers)}"
        listening = [
            Filter(to_jms(name), f"{connection}:-1:{number}", None if clean else f"AT_LEAST_ONCE:{name}")
            for number, name in enumerate(names, 1)
        ]
        self.apply(device, broker, Part(broker, tuple(listening)), live=True)

    def leave(self, device: str, broker: str) -> None:
        """It listens there no more."""
        self.apply(device, broker, None, live=False)

    def apply(self, device: str, broker: str, part: Part | None, live: bool) -> None:
        """As `Writer.apply`."""
        entry = self.entries.get(device, Entry()).merged(broker, part, live)
        self.entries[device] = entry
        if not entry:
            del self.entries[device]
        self._tell()

    def lose(self, broker: str) -> None:
        """The broker is away: what listens there does not count."""
        self.down.add(broker)
        self._tell()

    def regain(self, broker: str) -> None:
        """The broker is back."""
        self.down.discard(broker)
        self._tell()

    def counting(self, device: str) -> Entry | None:
        """The entry without the brokers that are away."""
        entry = self.entries.get(device)
        return (entry.without(self.down) or None) if entry else None

    def _tell(self) -> None:
        for reader in self._readers:
            reader.refresh()


class FakeOwners:
    """Stands in for `kalinka_jms.registry.owners.Owners`."""

    def __init__(self, registry: FakeRegistry, on_change: OnChange, knows: bool) -> None:
        self.available = True
        self.pinned: set[str] = set()
        self._registry = registry
        self._on_change = on_change
        self._knows = knows
        self._shown: dict[str, Entry | Unknown | None] = {}

    def get(self, device: str) -> Entry | Unknown | None:
        """As `Owners.get`; known at once, where the reader knows."""
        if device not in self._shown:
            self._shown[device] = self._registry.counting(device) if self._knows else UNKNOWN
        return self._shown[device]

    def pin(self, device: str) -> None:
        """As `Owners.pin`."""
        self.get(device)
        self.pinned.add(device)

    def unpin(self, device: str) -> None:
        """As `Owners.unpin`."""
        self.pinned.discard(device)

    def close(self) -> None:
        """Tell nothing more."""
        self._shown.clear()

    def learn(self) -> None:
        """ZooKeeper answers, from now on: what was asked for is told."""
        self._knows = self.available = True
        self.refresh()

    def forget_to_ask(self) -> None:
        """ZooKeeper is away: what is known goes on counting, and nothing new is learned."""
        self._knows = self.available = False

    def refresh(self) -> None:
        """Tell what changed."""
        if not self._knows:
            return
        for device, before in tuple(self._shown.items()):
            now = self._registry.counting(device)
            if now != before:
                self._shown[device] = now
                self._on_change(device, now)
