"""What waits in the parked topics, and what lies in the dead-letter topic, counted. Pure: fed with Kafka's records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kalinka_jms.dead import KALINKA_ORIGIN, KALINKA_REASON
from kalinka_jms.errors import RecordError
from kalinka_jms.records import KALINKA_ID
from kalinka_jms.sub.parked import parse_parked_key


@dataclass(slots=True)
class Waiting:
    """The parked records of one device; `oldest` in seconds since the epoch, `bytes` of keys and values."""

    device: str
    count: int = 0
    bytes: int = 0
    oldest: float = 0.0


@dataclass(slots=True)
class Buried:
    """The dead records of one reason; `newest` in seconds since the epoch, `id` and `origin` those of the newest."""

    reason: str
    count: int = 0
    newest: float = 0.0
    id: str = ""
    origin: str = ""


def parked(records: Iterable[Any]) -> list[Waiting]:
    """What waits, device by device, the most first. A record that was taken back by its tombstone does not count.

    The records of one partition come in order. What is no parked record is passed over.
    """
    waiting: dict[tuple[int, bytes], tuple[int, float]] = {}
    for record in records:
        place = record.partition(), record.key() or b""
        if record.value() is None:
            waiting.pop(place, None)
        else:
            waiting[place] = len(place[1]) + len(record.value()), record.timestamp()[1] / 1000
    devices: dict[str, Waiting] = {}
    for (_, key), (size, parked_at) in waiting.items():
        _add(devices, key, size, parked_at)
    return sorted(devices.values(), key=lambda one: (-one.count, one.device))


def _add(devices: dict[str, Waiting], key: bytes, size: int, parked_at: float) -> None:
    try:
        device, _, _ = parse_parked_key(key)
    except RecordError:
        return
    one = devices.setdefault(device, Waiting(device, oldest=parked_at))
    one.count += 1
    one.bytes += size
    one.oldest = min(one.oldest, parked_at)


def dead(records: Iterable[Any]) -> list[Buried]:
    """What was buried, reason by reason, the most first."""
    reasons: dict[str, Buried] = {}
    for record in records:
        headers = dict(record.headers() or ())
        reason = _text(headers.get(KALINKA_REASON)) or "no reason given"
        one = reasons.setdefault(reason, Buried(reason))
        one.count += 1
        if (at := record.timestamp()[1] / 1000) >= one.newest:
            one.newest, one.id, one.origin = at, _text(headers.get(KALINKA_ID)), _text(headers.get(KALINKA_ORIGIN))
    return sorted(reasons.values(), key=lambda one: (-one.count, one.reason))


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="backslashreplace")
