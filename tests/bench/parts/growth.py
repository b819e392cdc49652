"""What a message costs as the world grows, on real brokers: devices, and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tests.bench.meter import measure
from tests.bench.parts.sub import crowd, deliver
from tests.bench.rows import AT_LEAST_ONCE, Row
from tests.bench.scale import Scale
from tests.bench.stand import SIZE, UP, Stand
from tests.bench.turns import Contender, Figures, by_turns

SOURCES = 100
"""Devices where bytes grow."""
_BYTES = 64 * 2**20
"""Bytes of payload that one round carries at most."""


def points(curve: str, unit: str, places: Sequence[int], run: Callable[[int], Figures]) -> Iterator[Contender]:
    """A contender for each point of a curve."""
    for x in places:
        yield Contender(f"{curve}, {x:,} {unit}", AT_LEAST_ONCE, partial(run, x), curve, x)


def devices(stand: Stand, scale: Scale) -> list[Row]:
    """Messages from, and for, 1 to 10,000 devices at one real broker. As many as the most listen there all the time: it
    takes long for many to come, and longer for them to go."""
    with stand.recovering(), crowd(max(scale.crowds), stand.hosts[:1], "g") as there:
        up = points("pub, devices", "devices", scale.crowds, lambda n: _up(stand, scale.each, n))
        down = points("sub, devices", "devices", scale.crowds, lambda n: deliver(stand, there, scale.each, n).figures)
        return _measured(stand, scale, [*up, *down])


def sizes(stand: Stand, scale: Scale) -> list[Row]:
    """Payloads of 64 bytes to 1 MiB."""

    def count(size: int) -> int:
        return max(100, min(scale.each, _BYTES // size))

    up = points("pub, bytes", "bytes", scale.sizes, lambda size: _up(stand, count(size), SOURCES, size))
    down = points("sub, bytes", "bytes", scale.sizes, lambda size: _down(stand, count(size), SOURCES, size))
    return _measured(stand, scale, [*up, *down])


def _measured(stand: Stand, scale: Scale, contenders: Sequence[Contender]) -> list[Row]:
    with stand.instances("registry"):
        return by_turns([one for one in contenders if scale.wants(one.name)], scale.points, stand.sync)


def _up(stand: Stand, messages: int, sources: int, size: int = SIZE) -> Figures:
    start = stand.end(UP)
    stand.publish(messages, sources, size=size)
    with stand.instances("pub") as (pub,):
        return measure(pub.pid, lambda: stand.end(UP) - start, messages).figures


def _down(stand: Stand, messages: int, number: int, size: int = SIZE) -> Figures:
    with crowd(number, stand.hosts[:1], "s") as there:
        return deliver(stand, there, messages, size=size).figures
