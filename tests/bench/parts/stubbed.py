"""What a message costs with more brokers, and more devices, than the lab has room for: stubs stand in for them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.bench import settings
from tests.bench.listing import Listing
from tests.bench.meter import measure
from tests.bench.parts.growth import points
from tests.bench.rows import Row
from tests.bench.scale import Scale
from tests.bench.stand import STOMP, UP, Stand
from tests.bench.stubs import Load, Stubs
from tests.bench.turns import Figures, by_turns

EACH = 4
"""Messages for each device, at least."""

REAL = 3
"""Brokers of the lab; those beyond are stubs."""


def devices(stand: Stand, scale: Scale) -> list[Row]:
    """Devices behind one stub, all of them in the registry."""
    with ExitStack() as stack:
        scene = _Scene(stand, scale, stack)
        places = scale.fake_crowds
        up = points("pub, devices behind a stub", "devices", places, lambda n: scene.up(0, 1, n))
        down = points("sub, devices behind a stub", "devices", places, lambda n: scene.down(0, 1, n))
        return by_turns([one for one in (*up, *down) if scale.wants(one.name)], scale.points, "no journal")


def brokers(stand: Stand, scale: Scale) -> list[Row]:
    """1 to 20 brokers, stubs beyond three; the messages and the devices are as many in all."""

    def split(number: int) -> tuple[int, int, int]:
        return min(number, REAL), max(0, number - REAL), scale.devices

    with ExitStack() as stack:
        scene = _Scene(stand, scale, stack)
        up = points("pub, brokers", "brokers", scale.brokers, lambda n: scene.up(*split(n)))
        down = points("sub, brokers", "brokers", scale.brokers, lambda n: scene.down(*split(n)))
        return by_turns([one for one in (*up, *down) if scale.wants(one.name)], scale.points, stand.sync)


class _Scene:
    """Runs over so many real brokers and so many stubs; who listens where is written once for each kind of run."""

    def __init__(self, stand: Stand, scale: Scale, stack: ExitStack) -> None:
        self._stand = stand
        self._scale = scale
        self._stack = stack
        self._listings: dict[tuple[int, int], Listing] = {}

    def up(self, real: int, stubs: int, sources: int) -> Figures:
        """Every broker has the same number of messages."""
        stand, each = self._stand, self._messages(sources) // (real + stubs)
        with Stubs([Load(each, sources)] * stubs) as canned:
            config = self._config(real, canned)
            start = stand.end(UP)
            for host in range(real):
                stand.publish(each, sources, host=host)
            canned.open()
            with stand.instances("pub", config=config) as (pub,):
                return measure(pub.pid, lambda: stand.end(UP) - start, each * (real + stubs)).figures

    def down(self, real: int, stubs: int, number: int) -> Figures:
        """Records for devices that are spread over all brokers."""
        stand, listing, messages = self._stand, self._listing(real, stubs, number), self._messages(number)
        with Stubs([Load()] * stubs) as canned:
            config = self._config(real, canned, listing.root)
            start = listing.received
            stand.produce(listing.names, messages)
            with stand.instances("sub", config=config) as (sub,):
                return measure(sub.pid, lambda: listing.received - start + canned.count, messages).figures

    def _messages(self, devices: int) -> int:
        """Enough that each device is met several times."""
        return max(self._scale.each, EACH * devices)

    def _listing(self, real: int, stubs: int, number: int) -> Listing:
        key = (real + stubs, number)
        if key not in self._listings:
            prefix = f"l{key[0]}-{number}-"
            listing = Listing(self._stand, [f"{prefix}{i}" for i in range(number)], real, stubs)
            self._listings[key] = self._stack.enter_context(listing)
        return self._listings[key]

    def _config(self, real: int, canned: Stubs, root: str = "/bench/devices") -> Path:
        addresses = [f"{host}:{STOMP}" for host in self._stand.hosts[:real]] + canned.addresses
        return settings.write(self._stand.lab, self._stand.log("brokers").with_suffix(".toml"), addresses, root)
