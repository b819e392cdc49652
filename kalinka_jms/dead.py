"""Dead letters: what can never be mapped or delivered, byte for byte, and the headers that say why and whence.

Every letter ends with the four headers of `TRAILER`, in that order; what stands before them is what the message or
record had, also where it used the same names. A letter of the uplink holds the whole head of its STOMP frame, a letter
of the downlink the headers of its record; so both can be tried again as if nothing had happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from kalinka_jms.errors import RecordError
from kalinka_jms.records import KALINKA_ATTEMPT, KALINKA_ID, Message, Record, message_id, rare_headers
from kalinka_jms.routes import MQTT_TOPIC, original_topic

KALINKA_REASON = "kalinka.reason"
"""Why, for people: UTF-8."""
KALINKA_ORIGIN = "kalinka.origin"
"""Where it was: `broker/queue`, or `topic/partition/offset`."""
KALINKA_DIED = "kalinka.died"
"""When it was set aside: ISO 8601, UTC, milliseconds."""
TRAILER = (KALINKA_REASON, KALINKA_ORIGIN, KALINKA_DIED, KALINKA_ATTEMPT)
"""The last headers of every letter."""

KALINKA_VALUE = "kalinka.value"
"""Where the value is, of a letter that is too large for the dead-letter topic itself: `broker/ActiveMQ.DLQ`, or
`topic/partition/offset`. It stands before the trailer."""
STOMP_HEAD = "stomp.head"
"""Command and headers of a message, as the broker wrote them. It stands before the trailer."""

KEY_BYTES = 200
"""Bytes of the topic that are the key of a message's letter: what one source sent to one destination stays in order."""

MARGIN = 256 * 1024
"""Bytes by which the letter of a message may be larger than its MQTT frame, and more than that: key, headers, and the
topic, which may have 65,535 bytes, three times."""

Headers = list[tuple[str, bytes | None]]


class Whole(Message, Protocol):
    """A STOMP frame with its head as it came."""

    @property
    def head(self) -> bytes: ...


def dead_letter(
    message: Whole,
    broker: str,
    queue: str,
    reason: str,
    topic: str,
    at: float,
    *,
    attempt: int = 1,
    elsewhere: str = "",
) -> Record:
    """The record that keeps a message which cannot be mapped: the payload as it is, all headers, the reason.

    Its first header is the id, as `to_record` would have made it. `at`: seconds since the epoch. `elsewhere`: where the
    payload is, when it is not to be in the letter.
    """
    destination = message.raw("original-destination") or b""
    headers = [(KALINKA_ID, message_id(message, broker))]
    with contextlib.suppress(RecordError):  # where the topic itself cannot be read the reason says so
        headers.append((MQTT_TOPIC, original_topic(destination).encode()))
    headers += [*rare_headers(message), (STOMP_HEAD, message.head)]
    headers += [(KALINKA_VALUE, elsewhere.encode())] if elsewhere else []
    headers += _trailer(reason, f"{broker}/{queue}", at, attempt)
    return topic, destination[:KEY_BYTES] or None, None if elsewhere else message.body, headers


def dead_record(
    headers: Iterable[tuple[str, bytes | None]], id: str, origin: str, reason: str, at: float, *, elsewhere: str = ""
) -> Headers:
    """The headers of a record that is kept as dead: those it had, its id where it had none, and the trailer."""
    kept: Headers = list(headers)
    attempt = attempt_of(kept)
    if not any(name == KALINKA_ID for name, _ in kept):
        kept.append((KALINKA_ID, id.encode()))  # stays the same when it is tried again, at another place
    if elsewhere:
        kept.append((KALINKA_VALUE, elsewhere.encode()))
    return [*kept, *_trailer(reason, origin, at, attempt)]


def largest_frame(max_message_bytes: int) -> int:
    """Bytes of the largest MQTT frame of which everything fits into a Kafka topic with that max.message.bytes."""
    return max(max_message_bytes - MARGIN, max_message_bytes // 2)


def attempt_of(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Which attempt the record is: 1 where it does not say, or says nonsense."""
    value = dict(headers).get(KALINKA_ATTEMPT)
    return int(value) if value and value.isdigit() and len(value) <= 9 else 1


def split(headers: Sequence[tuple[str, bytes | None]]) -> tuple[Headers, dict[str, str]] | None:
    """What the letter had, and its trailer (name → text); None where these are not the headers of a letter."""
    own = headers[-len(TRAILER) :]
    if tuple(name for name, _ in own) != TRAILER:
        return None
    return list(headers[: -len(TRAILER)]), {
        name: (value or b"").decode(errors="backslashreplace") for name, value in own
    }


def _trailer(reason: str, origin: str, at: float, attempt: int) -> list[tuple[str, bytes]]:
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    values = reason.encode(errors="backslashreplace"), origin.encode(), time.encode(), b"%d" % attempt
    return list(zip(TRAILER, values, strict=True))
