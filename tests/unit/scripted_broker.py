"""A broker of the tests' own: a TCP server on the loopback that does to each connection what a script says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from stomp.utils import parse_frame

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link

PATIENCE = 20.0
"""Seconds after which a test gives up; nothing takes that long."""


@dataclass
class Heard:
    """A sink that keeps what it hears."""

    frames: list[Frame] = field(default_factory=list)
    lost: list[LinkLost] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, batch: list[Frame] | LinkLost) -> None:
        if isinstance(batch, LinkLost):
            self.lost.append(batch)
            self.ended.set()
        else:
            assert not self.lost
            self.frames += batch

    def end(self) -> str:
        """Wait for the end of the link; return its reason."""
        assert self.ended.wait(PATIENCE)
        (lost,) = self.lost
        return str(lost)


class Peer:
    """The broker's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.beats = 0
        self._kept = bytearray()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frames(self) -> Iterator[Any]:
        """The client's frames as stomp.py parses them, until it closes; heart-beats are counted."""
        while (frame := self.frame()) is not None:
            yield frame

    def frame(self) -> Any:
        """The next frame of the client, None at the end of the stream."""
        while (whole := self._whole()) is None:
            while b"\0" not in (chunk := self.socket.recv(1 << 20)):
                if not chunk:
                    return None
                self._kept += chunk
            self._kept += chunk
        return parse_frame(whole)

    def until_beat(self, number: int) -> None:
        """Read until so many heart-beats came."""
        while self.beats < number:
            assert self._whole() is None
            chunk = self.socket.recv(1 << 20)
            if not chunk:
                raise ConnectionError("the client left")
            self._kept += chunk

    def _whole(self) -> bytes | None:
        kept = self._kept.lstrip(b"\n")
        self.beats += len(self._kept) - len(kept)
        head, blank, rest = kept.partition(b"\n\n")
        _, counted, length = head.partition(b"\ncontent-length:")
        end = int(length.split(b"\n")[0]) if counted else rest.find(b"\0")
        if not blank or end < 0 or len(rest) <= end:
            self._kept = kept
            return None
        self._kept = rest[end + 1 :]
        return bytes(head + blank + rest[:end])

    def greet(self, heartbeat: str = "0,0") -> Any:
        """Answer CONNECT with CONNECTED; return the CONNECT frame."""
        connect = self.frame()
        assert connect.cmd == "CONNECT"
        self.send(f"CONNECTED\nversion:1.2\nheart-beat:{heartbeat}\nsession:ID:box-1-2:7\n\n\0\n".encode())
        return connect

    def subscribed(self, heartbeat: str = "0,0") -> None:
        """Answer CONNECT, and wait for SUBSCRIBE: no broker sends a message before."""
        self.greet(heartbeat)
        assert self.frame().cmd == "SUBSCRIBE"

    def confirm(self, disconnect: Any) -> None:
        """Answer DISCONNECT."""
        assert disconnect.cmd == "DISCONNECT"
        self.send(f"RECEIPT\nreceipt-id:{disconnect.headers['receipt']}\n\n\0\n".encode())

    def wait_for_close(self) -> None:
        """Read until the client is gone."""
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 20):
                pass


class ScriptedBroker:
    """Listens on 127.0.0.1; runs `script` on a thread for each connection. A script that fails makes the test fail."""

    def __init__(self, script: Callable[[Peer], None], context: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.refused: list[str] = []
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def settings(self, **more: Any) -> Broker:
        scheme = "stomps" if self._context else "stomp"
        return Broker.model_validate({"name": "dev1", "stomp": f"{scheme}://127.0.0.1:{self.port}", **more})

    def link(self, sink: Callable[[list[Frame] | LinkLost], None], **more: Any) -> Link:
        """A link that is connected."""
        link = Link(self.settings(**more), sink)
        link.connect()
        return link

    def subscribe(self, sink: Callable[[list[Frame] | LinkLost], None], **more: Any) -> Link:
        """A link that is connected and subscribed."""
        link = self.link(sink, **more)
        link.subscribe("/queue/a", "1")
        return link

    def __enter__(self) -> ScriptedBroker:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in (self._listener, *self._sockets):
            sock.close()
        if error is None and self._failures:
            raise self._failures[0]

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            self._script(Peer(sock))
        except ssl.SSLError as error:
            self.refused.append(str(error))
        except ConnectionError:
            pass  # the client dropped the link: the test looks at that from its side
        except Exception as error:
            self._failures.append(error)
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def message(number: int, body: bytes = b"") -> bytes:
    return encode("MESSAGE", [("message-id", str(number)), ("content-length", str(len(body)))], body) + b"\n"


def ids(frames: list[Frame]) -> list[str | None]:
    return [frame.header("message-id") for frame in frames]


def reset(peer: Peer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()
