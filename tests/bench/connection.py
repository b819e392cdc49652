"""As much of an MQTT client as a device of the benchmark needs: the cheapest there can be, without checks."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from tests.mqtt_packets import connect, cut, subscribe

PUBLISH, SUBACK = 3, 9


class Connection:
    """One client that subscribes at QoS 1 and acknowledges what it gets."""

    def __init__(self, host: str, port: int, name: str, filters: Sequence[str] = (), *, clean: bool = True) -> None:
        self.socket = socket.create_connection((host, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(connect(name, clean=clean))
        if filters:
            self.socket.sendall(subscribe(1, *filters))
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
