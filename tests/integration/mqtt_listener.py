"""A device that only listens: any filters, any kind of session, any way to leave. One socket, no thread."""

from __future__ import annotations

import socket

from tests.mqtt_packets import LASTING, connect, packet, subscribe, unsubscribe

CONNACK, SUBACK, UNSUBACK = 0x20, 0x90, 0xB0


class Listener:
    """An MQTT 3.1.1 client. Every method returns when the broker has confirmed."""

    def __init__(self, host: str, port: int, name: str, clean: bool = True, keep_alive: int = LASTING) -> None:
        """It never sends a ping: one that gave `keep_alive` (seconds) is as good as a process that was stopped."""
        self._socket = socket.create_connection((host, port), 10)
        self._socket.sendall(connect(name, clean=clean, keep_alive=keep_alive))
        assert self._receive(CONNACK)[1] == 0

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        for number, name in enumerate(filters, 1):
            self._socket.sendall(subscribe(number, name, qos=qos))
        for _ in filters:
            assert self._receive(SUBACK)[2] == qos

    def unsubscribe(self, *filters: str) -> None:
        for number, name in enumerate(filters, 1):
            self._socket.sendall(unsubscribe(number, name))
        for _ in filters:
            self._receive(UNSUBACK)

    def disconnect(self) -> None:
        """Leave in order."""
        self._socket.sendall(packet(0xE0, b""))
        self._socket.close()

    def cut(self) -> None:
        """Close the socket without a word."""
        self._socket.close()

    def _receive(self, kind: int) -> bytes:
        """The body of the next packet of this kind; others are passed over."""
        while True:
            found, body = self._read(1)[0] & 0xF0, self._read(self._length())
            if found == kind:
                return body

    def _length(self) -> int:
        length, shift = 0, 0
        while (byte := self._read(1)[0]) & 128:
            length, shift = length | (byte & 127) << shift, shift + 7
        return length | byte << shift

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the broker closed the connection")
            data += more
        return data
