"""The channel: the bytes of one connection, plain or TLS, which one thread reads while others write.

Python's TLS sockets stand one thread at a time. With stomp.py's way round that, one thread that reads and writes by
turns, a reader that is held back stops the writers and the heart-beats too, and the end of the stream goes unseen
(tried). So TLS works on buffers here, and the socket below is a plain one in both cases.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time

RECEIVE_SIZE = 64 * 1024
"""Bytes asked of the socket at once."""

PAUSE, FEW_BYTES = 0.001, 16 * 1024
"""Seconds after frames came until more are read, and from how many bytes on it goes on at once. Under load brokers send
frame by frame, and a wake-up for each of them costs more than all that is done with it (tried: 36 µs a message, and 22
with the pause). A frame after a quiet time does not wait."""

SEAL_SIZE = 256 * 1024
"""Bytes encrypted at once: the most that a large write takes a second time."""


class Channel:
    """A TCP connection. One thread receives; any thread sends, cuts."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()

    def receive(self) -> bytes:
        """Wait for bytes and return them, none at the end of the stream. Raises OSError."""
        return self._socket.recv(RECEIVE_SIZE)

    def limit(self, timeout: float | None) -> None:
        """From now on nothing waits longer than `timeout` seconds: it raises TimeoutError then."""
        self._socket.settimeout(timeout)

    def send(self, data: bytes) -> None:
        """Send it all, uninterrupted by other threads. Blocks while the peer does not read. Raises OSError."""
        with self._sending:
            self._send(data)

    def send_now(self, data: bytes) -> None:
        """Send a few bytes, or nothing where that would have to wait for the peer or another thread. Raises OSError."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            if self._has_room():
                self._send(data)
        finally:
            self._sending.release()

    def cut(self) -> None:
        """Make both directions fail at once, whatever waits on them."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut, and give the socket back once nobody sends any more."""
        self.cut()
        with self._sending:
            self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(0))


class TlsChannel(Channel):
    """A TCP connection with TLS on it. What TLS has to answer to goes out with the next bytes that are sent."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock)
        self._arrived, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._sealed, server_hostname=host)
        self._state = threading.Lock()  # never held while the socket waits
        self._broken: OSError | None = None

    def handshake(self, deadline: float) -> None:
        """Agree on TLS before the monotonic time `deadline`. Raises OSError (`ssl.SSLError` among them)."""
        while not self._agreed():
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = self._socket.recv(RECEIVE_SIZE)
            if not chunk:
                raise ConnectionError("closed during the TLS handshake")
            self._arrived.write(chunk)

    def receive(self) -> bytes:
        while (data := self._opened()) is None:
            chunk = self._socket.recv(RECEIVE_SIZE)
            if not chunk:
                return b""
            with self._state:
                self._arrived.write(chunk)
        return data

    def _agreed(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._socket.sendall(self._sealed.read())
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._socket.sendall(self._sealed.read())  # tells the peer why
            raise
        self._socket.sendall(self._sealed.read())
        return True

    def _opened(self) -> bytes | None:
        """What has arrived, all of it: OpenSSL hands out one record at a time, and a broker makes one of each frame."""
        pieces: list[bytes] = []
        with self._state:
            try:
                while piece := self._read():
                    pieces.append(piece)
            except ssl.SSLWantReadError:
                return b"".join(pieces) if pieces else None
            except OSError as error:
                if not pieces:
                    raise
                self._broken = error  # what came before it comes first
        return b"".join(pieces)

    def _read(self) -> bytes:
        """The next record; nothing where the peer has closed. Raises OSError."""
        if self._broken is not None:
            raise self._broken
        return self._tls.read(RECEIVE_SIZE)

    def _send(self, data: bytes) -> None:
        whole = memoryview(data)
        for at in range(0, len(whole), SEAL_SIZE):
            self._socket.sendall(self._seal(whole[at : at + SEAL_SIZE]))

    def _seal(self, piece: memoryview) -> bytes:
        with self._state:
            while piece:
                piece = piece[self._tls.write(piece) :]
            return self._sealed.read()


def open_channel(host: str, port: int, context: ssl.SSLContext | None, timeout: float) -> Channel:
    """Connect, with TLS where there is a context for it, in `timeout` seconds at most for each. Raises OSError."""
    sock = socket.create_connection((host, port), timeout)
    try:
        # Nagle's algorithm would hold a lone transaction back for 40 ms
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = Channel(sock)
        if context is not None:
            channel = secured = TlsChannel(sock, context, host)
            secured.handshake(time.monotonic() + timeout)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return channel
