"""One STOMP transaction as bytes: the sends to devices, the canaries, and the echo that proves them.

Everything goes into one buffer for one system call. The header `kn` tells what comes back on the link's subscription:
`<identity>.<transaction>.<index>`; the index of the echo is `e`, of a canary `c<place>`. What a broker reports of
another connection carries another identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kalinka_jms.stomp.frames import Frame, escape

ECHO_TOPIC = "/topic/kalinka.echo."
"""Plus the identity of the connection: shared by two links, an echo would prove nothing."""


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


Evidence = Report | CanaryReport | Echo


def send_prefix(destination: str, qos: int) -> bytes:
    """Return the beginning of a SEND to a JMS topic: what stays the same for every message.

    Not persistent, without `expires`: only then does the broker report that nobody listened. The QoS is always said:
    ActiveMQ would turn it round otherwise (tried).
    """
    return f"SEND\ndestination:/topic/{escape(destination)}\nActiveMQ.MQTT.QoS:{qos}\n".encode()


def encode(identity: str, number: int, sends: Sequence[Send], canaries: Sequence[tuple[int, bytes]]) -> bytes:
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


def evidence(identity: str, frames: Sequence[Frame]) -> list[Evidence]:
    """Return what the frames say about this connection's own sends, in their order."""
    mine = f"{identity}.".encode()
    tags = (frame.raw("kn") for frame in frames)
    return [_evidence(tag[len(mine) :]) for tag in tags if tag is not None and tag.startswith(mine)]


def _evidence(tag: bytes) -> Evidence:
    number, _, index = tag.partition(b".")
    if index == b"e":
        return Echo(int(number))
    if index.startswith(b"c"):
        return CanaryReport(int(number), int(index[1:]))
    return Report(int(number), int(index))
