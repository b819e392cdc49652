"""The dead-letter topic as a list of letters: which are there, which were tried again, which are wanted. Pure.

A letter that was tried again is not taken away: a marker behind it, in the same partition and written in the same
transaction as what became of it, names its offset in a header. So nothing is ever tried twice by mistake, or lost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kalinka_jms.dead import (
    KALINKA_ORIGIN,
    KALINKA_REASON,
    KALINKA_VALUE,
    STOMP_HEAD,
    Headers,
    attempt_of,
    dead_letter,
    dead_record,
    split,
)
from kalinka_jms.errors import RecordError
from kalinka_jms.records import KALINKA_ATTEMPT, KALINKA_ID, MQTT_TOPIC, to_record
from kalinka_jms.routes import Downlinks, Uplink
from kalinka_jms.stomp.frames import Frame

KALINKA_RETRIED = "kalinka.retried"
"""In a marker: the offset of a letter of the same partition that was tried again; as often as there are such."""
HANDED_OVER_AT = "kalinka.time"
"""The time that a record which was handed over had before that. One that is tried again is new."""

Place = tuple[int, int]
"""Partition and offset in the dead-letter topic."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter without its value. `at`: seconds since the epoch when it was written."""

    place: Place
    at: float
    reason: str
    origin: str
    attempt: int
    id: str
    who: str
    """The device, or the MQTT topic of a message."""
    elsewhere: str
    """Where its value is, if not in the letter."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: every one by default."""

    reason: str = ""
    """A part of the reason, in letters of any size."""
    origin: str = ""
    """The begin of the origin: a broker, broker/queue, a topic, topic/partition."""
    device: str = ""
    """The device, or one level of the message's topic."""
    since: float = 0.0
    until: float = float("inf")

    def takes(self, letter: Letter) -> bool:
        return (
            self.reason.lower() in letter.reason.lower()
            and (not self.origin or f"{letter.origin}/".startswith(f"{self.origin.rstrip('/')}/"))
            and (not self.device or self.device in (letter.who, *letter.who.split("/")))
            and self.since <= letter.at <= self.until
        )


def letters(records: Iterable[Any], wanted: Wanted = Wanted()) -> list[Letter]:
    """The letters among the records that are wanted and were not tried again; those of a partition come in order."""
    found: dict[Place, Letter] = {}
    for record in records:
        headers = record.headers() or ()
        if any(name == KALINKA_RETRIED for name, _ in headers):
            for place in _retried(record.partition(), headers):
                found.pop(place, None)
            continue
        letter = _letter(record, headers)
        if wanted.takes(letter):
            found[letter.place] = letter
    return list(found.values())


def marker(offsets: Iterable[int]) -> Headers:
    """The headers of the record that says that these letters of its partition were tried again."""
    return [(KALINKA_RETRIED, b"%d" % offset) for offset in offsets]


@dataclass(frozen=True, slots=True)
class Again:
    """What a letter becomes: a record for `topic` (partition -1: by its key), or, where there is a `refusal`, a letter
    once more."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    refusal: str = ""


class Links(Protocol):
    """Where messages go; see `Uplinks`."""

    def link_destination(self, frame: Frame) -> Uplink: ...


class Retry:
    """Makes of letters what they are tried again as: by the routes as they are now."""

    def __init__(self, uplinks: Links, downlinks: Downlinks, dead: str, partitions: Mapping[str, int]) -> None:
        """`partitions`: how many each topic of the routes has."""
        self._uplinks, self._downlinks = uplinks, downlinks
        self._dead = dead
        self._partitions = partitions

    def again(self, record: Any, now: float) -> Again:
        """The next attempt. Raises RecordError where there can be none: it stays as it is then."""
        found = split(record.headers() or ())
        if found is None:
            raise RecordError("it has not the headers of a letter")
        had, trailer = found
        named = dict(had)
        if KALINKA_VALUE in named:
            raise RecordError(f"its value is at {(named[KALINKA_VALUE] or b'').decode(errors='replace')}")
        if STOMP_HEAD in named:
            return self._up(Frame(named[STOMP_HEAD] or b"", record.value() or b""), trailer, now)
        return self._down(record, had, trailer)

    def refused(self, record: Any, reason: str, now: float) -> Again:
        """The letter once more, one attempt older, because Kafka does not take it where it should go."""
        had, trailer = split(record.headers() or ()) or ([], {})
        head = dict(had).get(STOMP_HEAD)
        if head is not None:
            return self._back(Frame(head, record.value() or b""), trailer, reason, now)
        headers = dead_record(_next(had, trailer), "", trailer[KALINKA_ORIGIN], reason, now)
        return Again(self._dead, record.partition(), record.key(), record.value(), headers, reason)

    def _up(self, frame: Frame, trailer: Mapping[str, str], now: float) -> Again:
        broker = trailer[KALINKA_ORIGIN].partition("/")[0]
        try:
            topic, key, value, headers = to_record(frame, self._uplinks.link_destination(frame), broker)
        except RecordError as error:
            return self._back(frame, trailer, str(error), now)
        return Again(topic, -1, key, value, _next(headers, trailer))

    def _back(self, frame: Frame, trailer: Mapping[str, str], reason: str, now: float) -> Again:
        broker, _, queue = trailer[KALINKA_ORIGIN].partition("/")
        attempt = int(trailer[KALINKA_ATTEMPT]) + 1
        topic, key, value, headers = dead_letter(frame, broker, queue, reason, self._dead, now, attempt=attempt)
        return Again(topic, -1, key, value, [*headers], reason)

    def _down(self, record: Any, had: Headers, trailer: Mapping[str, str]) -> Again:
        topic, _, rest = trailer[KALINKA_ORIGIN].partition("/")
        number = rest.partition("/")[0]
        if topic not in self._downlinks.topics:
            raise RecordError(f"no route reads {topic or 'its topic'} any more")
        partition = int(number) if number.isdigit() and int(number) < self._partitions.get(topic, 0) else -1
        return Again(topic, partition, record.key(), record.value(), _next(had, trailer))


def _next(headers: Iterable[tuple[str, bytes | None]], trailer: Mapping[str, str]) -> Headers:
    """The headers of the next attempt."""
    kept = [header for header in headers if header[0] not in (KALINKA_ATTEMPT, HANDED_OVER_AT)]
    return [*kept, (KALINKA_ATTEMPT, b"%d" % (int(trailer[KALINKA_ATTEMPT]) + 1))]


def _retried(partition: int, headers: Iterable[tuple[str, bytes | None]]) -> list[Place]:
    offsets = (value for name, value in headers if name == KALINKA_RETRIED and value)
    return [(partition, int(offset)) for offset in offsets if offset.isdigit()]


def _letter(record: Any, headers: Iterable[tuple[str, bytes | None]]) -> Letter:
    named = dict(headers)
    who = named.get(MQTT_TOPIC) if STOMP_HEAD in named else record.key()
    return Letter(
        place=(record.partition(), record.offset()),
        at=record.timestamp()[1] / 1000,
        reason=sys.intern(_text(named.get(KALINKA_REASON)) or "no reason given"),
        origin=_text(named.get(KALINKA_ORIGIN)),
        attempt=attempt_of(named.items()),
        id=_text(named.get(KALINKA_ID)),
        who=_text(who),
        elsewhere=_text(named.get(KALINKA_VALUE)),
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="backslashreplace")
