"""Messages ⇄ records: value, headers and the two envelopes. The payload is bytes, and never changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

from kalinka_jms.errors import RecordError
from kalinka_jms.names import refusal
from kalinka_jms.routes import CACHED, KALINKA_SOURCE, MQTT_TOPIC, SHOWN, Headers, Uplink

__all__ = [
    "DEFAULT_SOURCE",
    "ENVELOPE_BYTES",
    "KALINKA_ATTEMPT",
    "KALINKA_HOPS",
    "KALINKA_ID",
    "KALINKA_SOURCE",
    "KALINKA_TIME",
    "MQTT_QOS",
    "MQTT_RETAINED",
    "MQTT_TOPIC",
    "Command",
    "from_record",
    "message_id",
    "rare_headers",
    "record_id",
    "reference_head",
    "to_record",
]

KALINKA_ID = "kalinka.id"
KALINKA_HOPS = "kalinka.hops"
KALINKA_ATTEMPT = "kalinka.attempt"
"""How often it was tried to deliver the record: 2 where it came back from the dead-letter topic once."""
KALINKA_TIME = "kalinka.time"
MQTT_QOS = "mqtt.qos"
MQTT_RETAINED = "mqtt.retained"

ENVELOPE_BYTES = 64
"""Bytes of zero-padded JSON before the payload in the envelope `reference`."""

RecordHeaders = list[tuple[str, bytes]]
Record = tuple[str, bytes | None, bytes | None, RecordHeaders]
"""Kafka topic, key, value, headers."""

DEFAULT_SOURCE = "kafka"
"""The source of a record that names none: a plain producer sets only key and value."""

_RARE = frozenset((KALINKA_HOPS, KALINKA_ATTEMPT, MQTT_QOS, KALINKA_TIME))
_ORDINARY_QOS = b"1"
_QOS = {b"0": 0, b"1": 1, b"2": 2}


class Message(Headers, Protocol):
    """A STOMP frame: headers and a body."""

    @property
    def body(self) -> bytes: ...


def to_record(message: Message, uplink: Uplink, broker: str) -> Record:
    """The record of a message. The headers are always in the same order; the rare ones come last.

    Raises RecordError where the source is too long for the envelope.
    """
    headers = [(KALINKA_ID, message_id(message, broker)), *uplink.headers, *rare_headers(message)]
    if uplink.envelope == "plain":
        return uplink.topic, uplink.key, message.body, headers
    return uplink.topic, uplink.key, reference_head(uplink.source) + message.body, headers


class Command(NamedTuple):
    """A record on its way to a device. `timestamp` is Kafka's, in ms, of the record as it came first (one that
    was handed over has it in the header `kalinka.time`).

    A tuple, because one is made for every record: a frozen dataclass takes 1 µs longer.
    """

    topic: str
    partition: int
    offset: int
    device: str
    source: str | None
    value: bytes
    id: str
    hops: int
    attempt: int
    qos: int
    timestamp: int


_command: Callable[[tuple[Any, ...]], Command] = partial(tuple.__new__, Command)
"""Makes one in a fourth of the time that its own constructor takes."""


def from_record(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]] | None,
    timestamp: int,
    envelope: str = "plain",
    qos: int = 1,
) -> Command:
    """The command that a record stands for. `qos` is the most that the route allows.

    Raises RecordError for a record that can never be delivered. Where a header is repeated the last one counts.
    """
    if value is None:
        raise RecordError("null value")
    if key is None:
        raise RecordError("no key: the key is the device")
    device, source, id, hops, attempt = _device(key), None, "", 0, 1
    if headers:
        named = dict(headers)
        if (sender := named.get(KALINKA_SOURCE)) is not None:
            source = _text(sender)
        id = (named.get(KALINKA_ID) or b"").decode(errors="backslashreplace")
        if not _RARE.isdisjoint(named):
            hops = _number(KALINKA_HOPS, named[KALINKA_HOPS]) if KALINKA_HOPS in named else 0
            attempt = _number(KALINKA_ATTEMPT, named[KALINKA_ATTEMPT]) if KALINKA_ATTEMPT in named else 1
            qos = min(qos, _qos(named[MQTT_QOS])) if MQTT_QOS in named else qos
            timestamp = _time(named[KALINKA_TIME]) if KALINKA_TIME in named else timestamp
    if envelope != "plain":
        source, value = _opened(value)
    id = id or f"{topic}/{partition}/{offset}"
    return _command((topic, partition, offset, device, source, value, id, hops, attempt, qos, timestamp))


def message_id(message: Headers, broker: str) -> bytes:
    """The id of a message's record, stable across redelivery: the broker keeps it for as long as it has the message."""
    return record_id(broker.encode(), message.raw("message-id") or b"")


def record_id(broker: bytes, escaped: bytes) -> bytes:
    """As `message_id`; `escaped`: the message's id as it stands in a STOMP header."""
    return b"%b/%b" % (broker, escaped.replace(b"\\c", b":"))  # the only escape that a broker's id has


def rare_headers(message: Headers) -> RecordHeaders:
    """The headers of what is not ordinary. A device that did not speak MQTT has no QoS: persistent means 1."""
    headers: RecordHeaders = []
    qos = message.raw("ActiveMQ.MQTT.QoS")
    if qos not in _QOS:
        qos = b"1" if message.raw("persistent") == b"true" else b"0"
    if qos != _ORDINARY_QOS:
        headers.append((MQTT_QOS, qos or b"0"))
    if message.raw("ActiveMQ.Retain") == b"true":
        headers.append((MQTT_RETAINED, b"1"))
    return headers


@lru_cache(CACHED)
def reference_head(source: str) -> bytes:
    """What stands before the payload in the envelope `reference`. Raises RecordError where the source is too long."""
    head = json.dumps({"srcId": source}, ensure_ascii=False).encode()
    if len(head) > ENVELOPE_BYTES:
        raise RecordError(f"the source does not fit into the {ENVELOPE_BYTES} bytes of the envelope")
    return head.ljust(ENVELOPE_BYTES, b"\x00")


def _opened(value: bytes) -> tuple[str, bytes]:
    """Source and payload of a value in the envelope `reference`."""
    if len(value) < ENVELOPE_BYTES:
        raise RecordError(f"the value is shorter than the {ENVELOPE_BYTES} bytes of the envelope")
    return _source(value[:ENVELOPE_BYTES]), value[ENVELOPE_BYTES:]


@lru_cache(CACHED)
def _source(head: bytes) -> str:
    try:
        source = json.loads(head.rstrip(b"\x00").decode())["srcId"]
    except (ValueError, KeyError, TypeError, RecursionError):
        source = None
    if not isinstance(source, str):
        raise RecordError('the envelope does not begin with {"srcId": "..."}')
    return source


@lru_cache(CACHED)
def _device(key: bytes) -> str:
    reason = refusal(key)
    if reason is not None:
        raise RecordError(f"device {key[:SHOWN]!r}: {reason}")
    return key.decode()


@lru_cache(CACHED)
def _text(source: bytes) -> str:
    try:
        return source.decode()
    except UnicodeDecodeError:
        raise RecordError(f"the header {KALINKA_SOURCE} is not UTF-8") from None


def _qos(value: bytes | None) -> int:
    qos = _QOS.get(value or b"")
    if qos is None:
        raise RecordError(f"the header {MQTT_QOS} is {value!r}: should be 0, 1 or 2")
    return qos


def _time(value: bytes | None) -> int:
    if value is None or not value.isdigit() or len(value) > 13:
        raise RecordError(f"the header {KALINKA_TIME} is {value!r}: should be milliseconds since 1970")
    return int(value)


def _number(name: str, value: bytes | None) -> int:
    if value is None or not value.isdigit() or len(value) > 9:
        raise RecordError(f"the header {name} is {value!r}: should be a number")
    return int(value)
