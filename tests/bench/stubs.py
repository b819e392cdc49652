"""Brokers that cost nothing: as much STOMP as Kalinka's links need, and no messaging behind it.

With them the bridge is what limits the rate, and there can be more of them than a machine has room for real ones. Up:
a canned message again and again, never more un-acknowledged than the window. Down: sends are counted and thrown away,
echoes and canaries come back as a broker would report them.
"""

from __future__ import annotations

import multiprocessing
import re
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from tests.bench.stand import QUEUE

WINDOW, AT_ONCE = 1000, 100
"""Messages un-acknowledged, and the least that are sent at once."""

_ACK = re.compile(rb"ACK\n(?:.*\n)*?id:x-(\d+)")
_HEADER = {name: re.compile(rb"\n%b:([^\n]*)" % name.encode()) for name in ("receipt", "id", "destination", "kn")}
_ECHO = b"SEND\ndestination:/topic/kalinka.echo."
_CANARY = re.compile(rb"\.c\d+$")
_MESSAGE = (
    b"MESSAGE\ncontent-length:%d\nexpires:0\ndestination:/queue/%b\nack:x-%d\nsubscription:%b\npriority:4\n"
    b"original-destination:/topic/mqtt.d%d.sparkcluster.pub\nmessage-id:ID\\cstub-1\\c1\\c1\\c%d\npersistent:true\n"
    b"timestamp:%d\nActiveMQ.MQTT.QoS:1\n\n%b\x00\n"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What one stub has for its reader: so many messages, by turns of so many sources."""

    messages: int = 0
    sources: int = 1
    size: int = 256


class _Link:
    """One connection."""

    def __init__(self, sock: socket.socket, stub: _Stub) -> None:
        self.socket = sock
        self.subscription: bytes = b""
        """Of the queue, once it is subscribed to."""
        self._stub = stub
        self._rest = b""
        self._presence = b""
        self._numbers = 0

    def read(self) -> bool:
        """Take what is there; False at the end."""
        data = self.socket.recv(262_144)
        *frames, self._rest = (self._rest + data).split(b"\x00")
        for frame in frames:
            self._take(frame.lstrip(b"\n"))
        return bool(data)

    def _take(self, frame: bytes) -> None:
        if frame.startswith(b"SEND"):
            self._send(frame)
        elif frame.startswith(b"ACK"):
            match = _ACK.match(frame)
            assert match, frame
            self._stub.acknowledged(int(match[1]))
        elif not frame.startswith(b"BEGIN"):
            self._rare(frame)

    def _send(self, frame: bytes) -> None:
        self._numbers += 1
        if frame.startswith(_ECHO) or _CANARY.search(tag := _header(frame, "kn")):
            tag = _header(frame, "kn")
            self.socket.sendall(
                b"MESSAGE\ncontent-length:0\ndestination:/topic/stub\nsubscription:%b\nkn:%b\n"
                b"message-id:stub\\c-1\\c1\\c%d\n\n\x00\n" % (self._presence, tag, self._numbers)
            )
        else:
            self._stub.count.value += 1

    def _rare(self, frame: bytes) -> None:
        if frame.startswith((b"CONNECT", b"STOMP")):
            self.socket.sendall(b"CONNECTED\nversion:1.2\nheart-beat:0,0\nsession:stub\nserver:stub\n\n\x00\n")
        elif frame.startswith(b"SUBSCRIBE"):
            if _header(frame, "destination") == f"/queue/{QUEUE}".encode():
                self.subscription = _header(frame, "id")
            else:
                self._presence = _header(frame, "id")
        if receipt := _header(frame, "receipt"):
            self.socket.sendall(b"RECEIPT\nreceipt-id:%b\n\n\x00" % receipt)


def _header(frame: bytes, name: str) -> bytes:
    match = _HEADER[name].search(frame)
    return match[1] if match else b""


class _Stub:
    """One broker: its first reader gets the messages, the next one goes on where that one left."""

    def __init__(self, load: Load, count: Synchronized[int], listening: socket.socket) -> None:
        self.count = count
        self.listening = listening
        self.links: list[_Link] = []
        self._load = load
        self._payload = b"x" * load.size
        self._sent = self._acked = 0

    def accept(self) -> _Link:
        sock, _ = self.listening.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.links.append(_Link(sock, self))
        return self.links[-1]

    def leave(self, link: _Link) -> None:
        link.socket.close()
        self.links.remove(link)
        self._sent = self._acked

    def acknowledged(self, number: int) -> None:
        self.count.value += number + 1 - self._acked
        self._acked = number + 1

    def emit(self) -> None:
        """Send what the window has room for."""
        reader = next((link for link in self.links if link.subscription), None)
        room = min(self._load.messages, self._acked + WINDOW) - self._sent
        if reader is None or room <= 0 or room < min(AT_ONCE, self._load.messages - self._sent):
            return
        now, load = int(time.time() * 1000), self._load
        numbers = range(self._sent, self._sent + room)
        self._sent += room
        reader.socket.sendall(b"".join(self._message(reader.subscription, n, n % load.sources, now) for n in numbers))

    def _message(self, subscription: bytes, number: int, source: int, now: int) -> bytes:
        values = (len(self._payload), QUEUE.encode(), number, subscription, source, number, now, self._payload)
        return _MESSAGE % values


def _serve(stubs: list[_Stub], gate: Synchronized[int]) -> None:
    selector = selectors.DefaultSelector()
    for stub in stubs:
        selector.register(stub.listening, selectors.EVENT_READ, (stub, None))
    while True:
        for key, _ in selector.select(0.05):
            stub, link = key.data
            if link is None:
                made = stub.accept()
                selector.register(made.socket, selectors.EVENT_READ, (stub, made))
            elif not _alive(link):
                selector.unregister(link.socket)
                stub.leave(link)
        if gate.value:
            for stub in stubs:
                stub.emit()


def _alive(link: _Link) -> bool:
    try:
        return link.read()
    except ConnectionError:
        return False


class Stubs:
    """Stubs in a process of their own, one for each load; they begin to send when `open` is called."""

    def __init__(self, loads: Sequence[Load], host: str = "127.0.0.1") -> None:
        sockets = [socket.create_server((host, 0)) for _ in loads]
        self.addresses = [f"{host}:{one.getsockname()[1]}" for one in sockets]
        self._count: Synchronized[int] = multiprocessing.Value("l", 0, lock=False)
        self._gate: Synchronized[int] = multiprocessing.Value("l", 0, lock=False)
        stubs = [_Stub(load, self._count, one) for load, one in zip(loads, sockets, strict=True)]
        self._process = multiprocessing.Process(target=_serve, args=(stubs, self._gate), daemon=True)
        self._process.start()
        for one in sockets:
            one.close()

    @property
    def count(self) -> int:
        """Messages acknowledged by readers, and sends that were taken."""
        return self._count.value

    def open(self) -> None:
        """Begin to send."""
        self._gate.value = 1

    def stop(self) -> None:
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Stubs:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
