"""Memory after many messages, beside what it was after the first of them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.bench import names
from tests.bench.meter import reach, rss_of
from tests.bench.parts.sub import crowd
from tests.bench.rows import AT_LEAST_ONCE, Row
from tests.bench.scale import Scale
from tests.bench.stand import UP, Stand
from tests.bench.turns import Figures, say

DEADLINE = 900.0
"""Seconds that all messages may take."""
STEP = 0.1
"""Seconds between two looks at how many there are."""
LOOKS, APART = 10, 0.1
"""Looks at the memory, and seconds between them: what is in flight goes up and down."""


def run(stand: Stand, scale: Scale) -> list[Row]:
    """Long runs of each by turns; messages come while they are carried. None to warm up: a process is new each time."""
    ways = {names.PUB: _up, names.SUB: _down}
    rows = {name: Row(name, AT_LEAST_ONCE, stand.sync) for name in ways}
    for _ in range(scale.runs):
        for name, carry in ways.items():
            figures = carry(stand, scale)
            say(name, figures)
            rows[name].add(figures)
    return list(rows.values())


def _up(stand: Stand, scale: Scale) -> Figures:
    start = stand.end(UP)
    with stand.instances("pub") as (pub,):
        pub.wait_ready(60)
        with _meanwhile(lambda: stand.publish(scale.memory, scale.devices)):
            return _watch(pub.pid, lambda: stand.end(UP) - start, scale)


def _down(stand: Stand, scale: Scale) -> Figures:
    with stand.instances("registry"), crowd(scale.devices, stand.hosts) as devices, stand.instances("sub") as (sub,):
        sub.wait_ready(60)
        with _meanwhile(lambda: stand.produce(devices.names, scale.memory)):
            return _watch(sub.pid, lambda: devices.received, scale)


@contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join()


def _watch(pid: int, count: Callable[[], int], scale: Scale) -> Figures:
    begun, messages = time.monotonic(), scale.memory
    reach(count, scale.early, DEADLINE, STEP)
    early = _memory(pid)
    reach(count, messages, DEADLINE, STEP)
    seconds = time.monotonic() - begun
    late = _memory(pid)
    got = count()
    assert got == messages, f"{got} arrived of {messages}"
    return {"early": early, "rss": late, "rate": messages / seconds}


def _memory(pid: int) -> float:
    looks = []
    for _ in range(LOOKS):
        looks.append(rss_of(pid))
        time.sleep(APART)
    return statistics.median(looks)
