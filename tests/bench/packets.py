"""As much of MQTT 3.1.1 as a device of the benchmark needs: the cheapest client there can be, without checks."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

PUBLISH, PUBACK, SUBACK = 3, 4, 9


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


class Connection:
    """One client that subscribes at QoS 1 and acknowledges what it gets."""

    def __init__(self, host: str, port: int, name: str, filters: Sequence[str] = (), *, clean: bool = True) -> None:
        self.socket = socket.create_connection((host, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # the longest keep-alive there is: without one the broker takes its own, and nobody here sends PINGREQ
        head = b"\x04\x02\xff\xff" if clean else b"\x04\x00\xff\xff"
        self.socket.sendall(packet(0x10, text("MQTT") + head + text(name)))
        if filters:
            self.socket.sendall(packet(0x82, b"\x00\x01" + b"".join(text(topic) + b"\x01" for topic in filters)))
        self._rest = b""

    def read(self) -> tuple[bytes, list[tuple[int, int]], bool]:
        """Take what is there: the bytes, where in them the payloads of messages are, and whether the subscription
        stands now. Raises ConnectionError where the broker has closed it."""
        new = self.socket.recv(65536)
        if not new:
            raise ConnectionError("the broker closed the connection of a device")
        data = self._rest + new
        payloads, subscribed, acks, last = list[tuple[int, int]](), False, bytearray(), 0
        for at, body, end in cut(data):
            kind, last = data[at] >> 4, end
            if kind == PUBLISH:
                start = body + 2 + struct.unpack_from("!H", data, body)[0]
                if data[at] & 6:
                    acks += b"\x40\x02" + data[start : start + 2]
                    start += 2
                payloads.append((start, end))
            subscribed = subscribed or kind == SUBACK
        self._rest = data[last:]
        if acks:
            self.socket.sendall(acks)
        return data, payloads, subscribed
