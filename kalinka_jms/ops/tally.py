"""What waits in the parked topics, and what lies in the dead-letter topic, counted. Pure: fed with Kafka's records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kalinka_jms.errors import RecordError
from kalinka_jms.ops.letters import Letter
from kalinka_jms.sub.parked import parse_drop_key, parse_parked_key

EXAMPLES = 3
"""Devices or topics named for each reason."""


@dataclass(slots=True)
class Waiting:
    """The parked records of one device; `oldest` in seconds since the epoch (its own time), `bytes` of keys and
    values, `places` the topics and partitions that they are in."""

    device: str
    count: int = 0
    bytes: int = 0
    oldest: float = 0.0
    places: list[tuple[str, int]] = field(default_factory=list)


ORDERS: dict[str, Callable[[Waiting], tuple[float | str, ...]]] = {
    "count": lambda one: (-one.count, one.device),
    "oldest": lambda one: (one.oldest, one.device),
    "bytes": lambda one: (-one.bytes, one.device),
    "device": lambda one: (one.device,),
}
"""How the devices can be sorted."""


@dataclass(slots=True)
class Buried:
    """The dead letters of one reason; `oldest` and `newest` in seconds since the epoch, `id` and `origin` those of the
    newest, `examples` devices and MQTT topics that they are of."""

    reason: str
    count: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    id: str = ""
    origin: str = ""
    examples: list[str] = field(default_factory=list)


def parked(records: Iterable[Any]) -> list[Waiting]:
    """What waits, device by device, the most first. A record that was taken back by its tombstone does not count.

    The records of one partition come in order. What is no parked record is passed over.
    """
    waiting: dict[tuple[str, int, bytes], dict[bytes, tuple[int, float]]] = {}
    for record in records:
        key, place = record.key() or b"", (record.topic(), record.partition())
        if (dropped := parse_drop_key(key)) is not None:
            if record.value() is not None:  # asked for: carried out by whoever has the partition
                waiting.pop((*place, dropped.encode()), None)
            continue
        own = waiting.setdefault((*place, key.partition(b"/")[0]), {})
        own.pop(key, None)
        if record.value() is not None:
            own[key] = len(key) + len(record.value()), record.timestamp()[1] / 1000
    devices: dict[str, Waiting] = {}
    for (topic, number, _), own in waiting.items():
        for key, (size, born) in own.items():
            _add(devices, key, size, born, (topic, number))
    return sorted(devices.values(), key=ORDERS["count"])


def _add(devices: dict[str, Waiting], key: bytes, size: int, born: float, place: tuple[str, int]) -> None:
    try:
        device, _, _ = parse_parked_key(key)
    except RecordError:
        return
    one = devices.setdefault(device, Waiting(device, oldest=born))
    one.count += 1
    one.bytes += size
    one.oldest = min(one.oldest, born)
    if place not in one.places:
        one.places.append(place)


def dead(letters: Iterable[Letter]) -> list[Buried]:
    """What was buried, reason by reason, the most first."""
    reasons: dict[str, Buried] = {}
    for letter in letters:
        one = reasons.setdefault(letter.reason, Buried(letter.reason, oldest=letter.at))
        one.count += 1
        one.oldest = min(one.oldest, letter.at)
        if letter.at >= one.newest:
            one.newest, one.id, one.origin = letter.at, letter.id, letter.origin
        if letter.who not in one.examples and len(one.examples) < EXAMPLES:
            one.examples.append(letter.who)
    return sorted(reasons.values(), key=lambda one: (-one.count, one.reason))
