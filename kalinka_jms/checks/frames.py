"""May a device publish more than Kafka takes? Only the announcement of such a message is sent, and no byte of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing

from kalinka_jms.checks import mqtt
from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.config import Broker, Settings, Tls
from kalinka_jms.config.fields import split_mqtt
from kalinka_jms.dead import largest_frame
from kalinka_jms.errors import ConfigError, KafkaError
from kalinka_jms.ops.cluster import Cluster
from kalinka_jms.ops.topics import wanted
from kalinka_jms.stomp.channel import Channel, open_channel

SIZE = "max.message.bytes"
ANSWER = 2.0
"""Seconds that the broker has to end the connection."""
LONGEST = 268_435_455
"""Bytes of the largest message of MQTT."""


def look(settings: Settings, broker: Broker) -> Iterator[Finding]:
    """Try it. Nothing is found where Kafka or the broker does not answer: other checks say so."""
    try:
        limit = _limit(settings)
        if limit is None or limit >= LONGEST or refuses(broker, limit):
            return
    except (KafkaError, ConfigError, mqtt.NotTried, OSError, ValueError):
        return
    means = f"a device may publish more than Kafka takes ({limit:,} bytes): that would end in ActiveMQ.DLQ"
    remedy = f"add wireFormat.maxFrameSize={largest_frame(limit)} to the uri of its MQTT connectors"
    yield Finding(broker.name, Kind.FINDING, means, remedy)


def _limit(settings: Settings) -> int | None:
    """Bytes that a record may have in every topic that messages get into; None where Kafka does not tell."""
    names = [topic.name for topic in wanted(settings) if topic.purpose in ("up", "down", "dead") and topic.written]
    cluster = Cluster(settings)
    own = cluster.settings(cluster.look(names).topics)
    return min((int(of[SIZE]) for of in own.values() if SIZE in of), default=None)


def refuses(broker: Broker, size: int) -> bool:
    """Whether the broker ends the connection of a device that announces a message of that size."""
    where = split_mqtt(mqtt.address(broker))
    context = (broker.tls or Tls()).context() if where.scheme == "mqtts" else None
    with closing(open_channel(where.hostname or "", where.port or 0, context, mqtt.TIMEOUT)) as channel:
        channel.limit(ANSWER)
        channel.send(_connect(broker))
        answer = channel.receive()
        if answer[:1] != b"\x20" or answer[3:4] != b"\x00":
            raise mqtt.Refused("the login is refused")
        channel.send(b"\x32" + _length(size))
        return _closes(channel)


def _closes(channel: Channel) -> bool:
    deadline = time.monotonic() + ANSWER
    try:
        while time.monotonic() < deadline:
            if not channel.receive():
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def _connect(broker: Broker) -> bytes:
    """CONNECT of MQTT 3.1.1, clean session, with the login that Kalinka has."""
    flags, more = 0x02, b""
    if broker.login is not None:
        flags, more = flags | 0x80, _text(broker.login)
        if broker.passcode is not None:
            flags, more = flags | 0x40, more + _text(broker.passcode.read())
    body = _text("MQTT") + bytes([4, flags, 0, 30]) + _text(f"kalinka-probe-{uuid.uuid4().hex[:8]}") + more
    return b"\x10" + _length(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _length(size: int) -> bytes:
    """A remaining length as MQTT writes it: seven bits a byte."""
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)
