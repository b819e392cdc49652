"""The link: one STOMP 1.2 connection to one broker.

stomp.py does what is rare (connect, TLS, login, heart-beats, receipts); MESSAGE frames never reach its parser: the
transport below cuts them out of the stream in batches, about a tenth of the time per message.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Callable

import stomp
from stomp.exception import StompException
from stomp.protocol import Protocol12
from stomp.transport import Transport

from kalinka_jms.config import Broker
from kalinka_jms.errors import FrameError, LinkLost, LinkRefused
from kalinka_jms.frames import MESSAGE, Frame, Parser

CONNECT_TIMEOUT = 5.0
"""Seconds a broker has for TCP, TLS and CONNECTED."""

DISCONNECT_TIMEOUT = 5.0
"""Seconds a broker has to confirm DISCONNECT."""

HEARTBEAT_SCALE = 2.6
"""Heart-beat intervals without a byte before the link counts as lost: 1.5 dropped healthy links to 6.3.1 (tried)."""

RECEIVE_SIZE = 64 * 1024
"""Bytes asked of the socket at once."""

Sink = Callable[["list[Frame] | LinkLost"], None]


class _Transport(Transport):  # type: ignore[misc]
    """stomp.py's transport, with MESSAGE frames taken out of the stream before stomp.py sees them."""

    def __init__(self, host: str, port: int, deliver: Callable[[list[Frame]], None]) -> None:
        super().__init__(
            [(host, port)],
            prefer_localhost=False,
            try_loopback_connect=False,
            reconnect_attempts_max=1,
            reconnect_sleep_initial=0.0,
            timeout=CONNECT_TIMEOUT,
            auto_decode=False,
            recv_bytes=RECEIVE_SIZE,
        )
        self._parser = Parser()
        self._deliver = deliver
        self.failure: Exception | None = None

    def attempt_connection(self) -> None:
        super().attempt_connection()
        # Nagle's algorithm would hold a lone transaction back for 40 ms
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self) -> bytes | None:
        """Read once; deliver the messages; leave the other frames (or a heart-beat, if none) to stomp.py."""
        chunk: bytes | None = super().receive()
        if not chunk:
            return chunk
        try:
            return self._sort(self._parser.feed(chunk))
        except Exception as error:  # stomp.py would swallow it: keep it, and end the link
            self.failure = error
            self.disconnect_socket()
            return b""

    def _sort(self, frames: list[Frame]) -> bytes:
        messages = [frame for frame in frames if frame.command == MESSAGE]
        if messages and self.running:
            self._deliver(messages)
        if len(messages) == len(frames):
            return b"\n"
        return b"".join(frame.wire() for frame in frames if frame.command != MESSAGE)

    def disconnect_socket(self) -> None:
        """Make both directions fail at once; the reading thread closes the socket on its way out.

        stomp.py's own would wait for the peer's TLS close, which a frozen broker never sends.
        """
        self.running = False
        sock = self.socket
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def write(self, data: bytes) -> None:
        """Send bytes that are whole frames. Blocks while the broker does not read, except with TLS."""
        queue = self.send_queue
        if queue is not None:
            queue.put(data)  # with TLS only stomp.py's own thread may touch the socket
        else:
            self.send(data)


class _Events(stomp.ConnectionListener):  # type: ignore[misc]
    """What stomp.py reports of the rare frames."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_connected(self, frame: object) -> None:
        self._link._connected(dict(frame.headers))  # type: ignore[attr-defined]

    def on_error(self, frame: object) -> None:
        text = frame.headers.get("message") or _first_line(frame.body)  # type: ignore[attr-defined]
        self._link.drop(f"the broker reported an error: {text}")

    def on_heartbeat_timeout(self) -> None:
        self._link.drop("no heart-beat from the broker")


class Link:
    """One connection to a broker. It is made once, connected once, and never comes back.

    `sink` is called on the link's reading thread with batches of MESSAGE frames in the order of the broker, and
    exactly once, last, with a `LinkLost` that says why it ended. An exception that `sink` raises ends the link.
    """

    def __init__(self, broker: Broker, sink: Sink) -> None:
        self.broker = broker
        self.identity = uuid.uuid4().hex
        """Unique for this connection; part of its echo topic and of the headers that its sends carry."""
        self.session = ""
        """The broker's id of this connection (header `session` of CONNECTED)."""
        self._sink = sink
        self._reason = ""
        self._answered = threading.Event()
        self._reader: threading.Thread | None = None
        self._transport = _Transport(broker.host, broker.port, sink)
        beat = int(broker.heartbeat * 1000)
        self._protocol = Protocol12(self._transport, (beat, beat), heart_beat_receive_scale=HEARTBEAT_SCALE)
        self._transport.set_listener("kalinka", _Events(self))
        self._transport.override_threading(self._start_reader)

    def connect(self) -> None:
        """Connect and log in. Raises LinkRefused if the broker says no, LinkLost if it cannot be reached."""
        try:
            self._secure()
            self._transport.start()
            self._login()
        except (OSError, StompException) as error:
            self._transport.disconnect_socket()
            raise LinkLost(f"{self.broker.name}: cannot connect to {self.broker.stomp}: {_words(error)}") from error
        if not self._answered.wait(CONNECT_TIMEOUT):
            self.drop("no answer to CONNECT")
        if self.session:
            return
        if self._reason.startswith("the broker reported"):
            raise LinkRefused(f"{self.broker.name}: {self._reason}")
        raise LinkLost(f"{self.broker.name}: {self._reason or 'the broker closed the connection'}")

    def subscribe(self, destination: str, number: str, ack: str = "auto", headers: dict[str, str] | None = None) -> None:
        """Send SUBSCRIBE. A refusal comes as an ERROR frame, which ends the link. Raises LinkLost."""
        self._guarded(lambda: self._protocol.subscribe(destination, number, ack=ack, headers=headers))

    def write(self, data: bytes) -> None:
        """Send whole frames with one system call. Raises LinkLost."""
        self._guarded(lambda: self._transport.write(data))

    def heard(self) -> None:
        """Count as a heart-beat from the broker: for a sink that holds the reading thread back on purpose."""
        self._transport.notify("heartbeat")

    def disconnect(self) -> None:
        """Leave in order: DISCONNECT, wait for its receipt (5 seconds at most), close.

        Everything that was written before has been taken by the broker when this returns in time.
        """
        with contextlib.suppress(LinkLost):
            self._guarded(lambda: self._protocol.disconnect(receipt=uuid.uuid4().hex))
            self._join(DISCONNECT_TIMEOUT)
        self.drop("disconnected")
        self._join(DISCONNECT_TIMEOUT)

    def drop(self, reason: str) -> None:
        """End the link at once, from any thread; the first reason is the one that `sink` hears."""
        self._reason = self._reason or reason
        self._transport.disconnect_socket()

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            send()
        except (OSError, StompException, AttributeError) as error:  # AttributeError: the socket went away in between
            self.drop(f"cannot send: {_words(error)}")
            raise LinkLost(f"{self.broker.name}: {self._reason}") from error

    def _login(self) -> None:
        broker = self.broker
        passcode = broker.passcode.read() if broker.passcode else None
        self._protocol.connect(broker.login, passcode, with_connect_command=True)

    def _secure(self) -> None:
        broker = self.broker
        if not broker.secure:
            return
        tls = broker.tls
        self._transport.set_ssl(
            for_hosts=[(broker.host, broker.port)],
            ca_certs=str(tls.ca) if tls and tls.ca else None,
            cert_file=str(tls.cert) if tls and tls.cert else None,
            key_file=str(tls.key) if tls and tls.key else None,
            password=tls.key_password.read() if tls and tls.key_password else None,
            verify=tls.verify if tls else True,
        )

    def _connected(self, headers: dict[str, str]) -> None:
        self.session = headers.get("session") or "-"
        self._answered.set()

    def _start_reader(self, loop: Callable[[], None]) -> threading.Thread:
        self._reader = threading.Thread(target=self._read, args=(loop,), name=f"link-{self.broker.name}", daemon=True)
        self._reader.start()
        return self._reader

    def _read(self, loop: Callable[[], None]) -> None:
        loop()
        failure = self._transport.failure
        if isinstance(failure, FrameError):
            self._reason = self._reason or str(failure)
        elif failure is not None:
            self._reason = self._reason or f"the reader failed: {failure!r}"
        self._answered.set()
        lost = LinkLost(f"{self.broker.name}: {self._reason or 'the broker closed the connection'}")
        lost.__cause__ = failure
        self._sink(lost)

    def _join(self, timeout: float) -> None:
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(timeout)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _first_line(body: object) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    return text.strip().split("\n", 1)[0]
