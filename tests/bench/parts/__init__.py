"""The parts of the benchmark: each measures its rows by turns, on a lab that is up."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.parts import cores, growth, latency, memory, pub, stubbed, sub
from tests.bench.rows import Row
from tests.bench.scale import CURVES, Scale
from tests.bench.stand import Stand

PARTS: dict[str, Callable[[Stand, Scale], list[Row]]] = {
    "pub": pub.run,
    "sub": sub.run,
    "latency": latency.run,
    "memory": memory.run,
    "devices": growth.devices,
    "bytes": growth.sizes,
    "brokers": stubbed.brokers,
    "stubs": stubbed.devices,
    "cores": cores.run,
}
"""In the order in which they run."""

GROUPS = {"growth": CURVES, "peers": ("pub", "sub")}
"""Names for several at once; peers take their turns among the others, never alone."""


def parts(names: list[str]) -> list[str]:
    """The parts that are meant by these names, each once; all of them where there is none."""
    wanted = {part for name in names for part in GROUPS.get(name, (name,))}
    return [name for name in PARTS if not names or name in wanted]
