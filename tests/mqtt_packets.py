"""Packets of MQTT 3.1.1, as far as the devices of tests and benchmark need them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

LASTING = 65_535
"""Seconds, the longest keep-alive: for who never sends a PINGREQ. 0 would be the broker's transport.defaultKeepAlive:
it would close after 90 s."""


def text(value: str) -> bytes:
    """A string with its length."""
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def packet(head: int, body: bytes) -> bytes:
    """A packet whose first byte is `head`."""
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([head]) + bytes(length) + body


def connect(name: str, *, clean: bool = True, keep_alive: int = LASTING) -> bytes:
    """A CONNECT without login and will."""
    return packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0]) + struct.pack("!H", keep_alive) + text(name))


def subscribe(number: int, *filters: str, qos: int = 1) -> bytes:
    """A SUBSCRIBE to all these filters."""
    return packet(0x82, struct.pack("!H", number) + b"".join(text(one) + bytes([qos]) for one in filters))


def unsubscribe(number: int, *filters: str) -> bytes:
    """An UNSUBSCRIBE from all these filters."""
    return packet(0xA2, struct.pack("!H", number) + b"".join(map(text, filters)))


def publish(topic: str, number: int, payload: bytes) -> bytes:
    """A PUBLISH at QoS 1."""
    return packet(0x32, text(topic) + struct.pack("!H", number) + payload)


def cut(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The whole packets in `data`: where each begins, where its body begins, and where it ends."""
    at = 0
    while True:
        size, body = _length(data, at)
        if size < 0 or body + size > len(data):
            return
        yield at, body, body + size
        at = body + size


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Bytes of the body of the packet at `at`, and where the body begins; (-1, …) where that is not known yet."""
    size = shift = 0
    for place in range(at + 1, min(at + 5, len(data))):
        size |= (data[place] & 0x7F) << shift
        shift += 7
        if not data[place] & 0x80:
            return size, place + 1
    return -1, at
