"""One STOMP transaction as bytes: the sends to devices, the canaries, and the echo that proves them.

Everything goes into one buffer for one system call. The header `kn` tells what comes back on the link's subscription:
`<identity>.<transaction>.<index>`; the index of the echo is `e`, of a canary `c<place>`. What a broker reports of
another connection carries another identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kalinka_jms.stomp.frames import Frame, escape

ECHO_TOPIC = "/topic/kalinka.echo."
"""Plus the identity of the connection: shared by two links, an echo would prove nothing."""


WORDS = ("MessageDispatched", "MessageConsumed", "Expired")
"""The advisories about single messages."""

_NUMBERED = ":-1:1:"
"""Stands in the id of a message between the id of the connection and the number, for everything sent over STOMP."""


@dataclass(frozen=True, slots=True)
class Send:
    """One MQTT message on its way: `prefix` as `send_prefix` makes it, and the payload."""

    prefix: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What came back for one send of a transaction of this link: nobody listened there."""

    transaction: int
    index: int


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """The broker reported a canary, as it must: absence can be seen for the canary's route."""

    transaction: int
    place: int


@dataclass(frozen=True, slots=True)
class Echo:
    """The transaction went through the broker, and every report of it has come."""

    transaction: int
    message: int = field(default=0, compare=False)
    """The echo's own number among the messages of this link, counted by the broker."""


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The broker wrote this link's message of that number (1, 2, 3, …) to the socket of a consumer."""

    message: int
    consumer: str


@dataclass(frozen=True, slots=True)
class Consumed:
    """A durable subscriber acknowledged it; said of one that expired for such a subscriber as well."""

    message: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Its time ran out at the broker before some subscriber had it."""

    message: int


Word = Dispatched | Consumed | Expired
"""What the broker says of one message, known by its number: these advisories do not carry our headers."""

Evidence = Report | CanaryReport | Echo | Word

_DISPATCHED, _CONSUMED, _EXPIRED = (f"/topic/ActiveMQ.Advisory.{kind}.Topic.".encode() for kind in WORDS)


def send_prefix(destination: str, qos: int) -> bytes:
    """Return the beginning of a SEND to a JMS topic: what stays the same for every message.

    Not persistent, without `expires`: only then does the broker report that nobody listened. The QoS is always said:
    ActiveMQ would turn it round otherwise (tried).
    """
    return f"SEND\ndestination:/topic/{escape(destination)}\nActiveMQ.MQTT.QoS:{qos}\n".encode()


class Sendable(Protocol):
    """What can be sent: a `Send`, or whatever has what one has."""

    @property
    def prefix(self) -> bytes: ...

    @property
    def payload(self) -> bytes: ...


def encode(identity: str, number: int, sends: Sequence[Sendable], canaries: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the frames of transaction `number` (unique for the connection), ready to be written.

    `canaries` are (place, prefix): sends to a device that is never there.
    """
    transaction = b"transaction:%d\n" % number
    tag = f"kn:{identity}.{number}.".encode()
    parts = [b"BEGIN\n%b\n\x00" % transaction]
    for index, send in enumerate(sends):
        payload = send.payload
        parts.append(
            b"%b%b%b%d\ncontent-length:%d\n\n%b\x00" % (send.prefix, transaction, tag, index, len(payload), payload)
        )
    parts.extend(
        b"%b%b%bc%d\ncontent-length:0\n\n\x00" % (prefix, transaction, tag, place) for place, prefix in canaries
    )
    echo = f"SEND\ndestination:{ECHO_TOPIC}{identity}\n".encode()
    parts.append(b"%b%b%be\ncontent-length:0\n\n\x00" % (echo, transaction, tag))
    parts.append(b"COMMIT\n%b\n\x00" % transaction)
    return b"".join(parts)


class Reader:
    """Finds in frames what they say about one connection's own sends.

    ActiveMQ numbers what a STOMP connection sends: 1, 2, 3, … (tried; each echo tells whether that still holds). The
    advisories about single messages are known by that number alone.
    """

    def __init__(self, identity: str, session: str) -> None:
        """`session`: the broker's id of the connection."""
        self._tag = f"{identity}.".encode()
        self._id = escape(f"{session}{_NUMBERED}").encode()

    def evidence(self, frames: Sequence[Frame]) -> list[Evidence]:
        """What the frames say, in their order."""
        found = (self._evidence(frame) for frame in frames)
        return [evidence for evidence in found if evidence is not None]

    def _evidence(self, frame: Frame) -> Evidence | None:
        tag = frame.raw("kn")
        if tag is None:
            number = self._number(frame.raw("orignalMessageId"))  # the broker's spelling
            return _word(frame, number) if number else None
        if not tag.startswith(self._tag):
            return None
        transaction, _, index = tag[len(self._tag) :].partition(b".")
        if index == b"e":
            return Echo(int(transaction), self._number(frame.raw("message-id")))
        if index.startswith(b"c"):
            return CanaryReport(int(transaction), int(index[1:]))
        return Report(int(transaction), int(index))

    def _number(self, id: bytes | None) -> int:
        """The number of one of this connection's messages; 0 for another one's."""
        if id is None or not id.startswith(self._id):
            return 0
        digits = id[len(self._id) :]
        return int(digits) if digits.isdigit() else 0


def _word(frame: Frame, number: int) -> Word | None:
    topic = frame.raw("destination") or b""
    if topic.startswith(_DISPATCHED):
        return Dispatched(number, frame.header("consumerId") or "")
    if topic.startswith(_CONSUMED):
        return Consumed(number)
    return Expired(number) if topic.startswith(_EXPIRED) else None
