"""Many MQTT devices in one process, as cheap as they can be: they connect, subscribe, acknowledge and count.

A real client costs more CPU a message than the bridge does, and there are two cores for everything.
"""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import struct
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized

CONNACK, PUBLISH, SUBACK = 2, 3, 9


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([head]) + bytes(length) + body


class _Device:
    """One connection (MQTT 3.1.1), QoS 1."""

    def __init__(self, host: str, port: int, name: str, clean: bool) -> None:
        self.socket = socket.create_connection((host, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b"\x04\x02\x00\x00" if clean else b"\x04\x00\x00\x00"
        self.socket.sendall(_packet(0x10, _text("MQTT") + head + _text(name)))
        filters = (f"mqtt/+/mqtt/{name}/sub", f"sparkcluster/mqtt/{name}/sub")
        self.socket.sendall(_packet(0x82, b"\x00\x01" + b"".join(_text(topic) + b"\x01" for topic in filters)))
        self._rest = b""

    def read(self) -> tuple[int, bool]:
        """Take what is there: how many messages came, and whether the subscription stands now."""
        data = self._rest + self.socket.recv(65536)
        at, count, subscribed, acks = 0, 0, False, bytearray()
        while (end := _end(data, at)) <= len(data) and end > at:
            kind, body = data[at] >> 4, end - _length(data, at)[0]
            if kind == PUBLISH:
                count += 1
                if data[at] & 6:
                    topic = struct.unpack_from("!H", data, body)[0]
                    acks += b"\x40\x02" + data[body + 2 + topic : body + 4 + topic]
            subscribed = subscribed or kind == SUBACK
            at = end
        self._rest = data[at:]
        if acks:
            self.socket.sendall(acks)
        return count, subscribed


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Bytes of the body of the packet at `at`, and where the body begins; (-1, …) where that is not known yet."""
    size = shift = 0
    for place in range(at + 1, min(at + 5, len(data))):
        size |= (data[place] & 0x7F) << shift
        shift += 7
        if not data[place] & 0x80:
            return size, place + 1
    return -1, at


def _end(data: bytes, at: int) -> int:
    size, body = _length(data, at)
    return body + size if size >= 0 else len(data) + 1


def _run(
    places: Sequence[tuple[str, str]], port: int, clean: bool, ready: Synchronized[int], count: Synchronized[int]
) -> None:
    selector = selectors.DefaultSelector()
    for name, host in places:
        device = _Device(host, port, name, clean)
        selector.register(device.socket, selectors.EVENT_READ, device)
    while True:
        for key, _ in selector.select():
            messages, subscribed = key.data.read()
            if messages:
                count.value += messages
            if subscribed:
                ready.value += 1


class Devices:
    """Devices `d0` … on the given hosts in turn, in a process of their own; with sessions that are clean, or not."""

    def __init__(self, number: int, hosts: Sequence[str], port: int = 1883, *, clean: bool = True) -> None:
        self.names = [f"d{i}" for i in range(number)]
        places = [(name, hosts[i % len(hosts)]) for i, name in enumerate(self.names)]
        self._ready: Synchronized[int] = multiprocessing.Value("l", 0, lock=False)
        self._count: Synchronized[int] = multiprocessing.Value("l", 0, lock=False)
        arguments = (places, port, clean, self._ready, self._count)
        self._process = multiprocessing.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def ready(self) -> bool:
        """Whether all of them are subscribed."""
        return self._ready.value >= len(self.names)

    @property
    def received(self) -> int:
        """Messages received so far."""
        return self._count.value

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
