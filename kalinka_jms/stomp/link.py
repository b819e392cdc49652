"""The link: one STOMP 1.2 connection to one broker.

stomp.py does what is rare (login, heart-beats, the rare frames); MESSAGE frames never reach its parser: the transport
below cuts them out of the stream in batches, at about a tenth of the time per message.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
import uuid
from collections.abc import Callable

import stomp
from stomp.exception import NotConnectedException, StompException
from stomp.protocol import Protocol12
from stomp.transport import BaseTransport

from kalinka_jms.config import Broker, Tls
from kalinka_jms.errors import FrameError, LinkLost, LinkRefused
from kalinka_jms.stomp.channel import FEW_BYTES, PAUSE, Channel, open_channel
from kalinka_jms.stomp.frames import MESSAGE, Frame, Parser

CONNECT_TIMEOUT = 5.0
"""Seconds a broker has for each of TCP, TLS and CONNECTED."""

DISCONNECT_TIMEOUT = 5.0
"""Seconds a broker has to confirm DISCONNECT."""

HEARTBEAT_SCALE = 2.6
"""Heart-beat intervals without a byte before the link counts as lost: 1.5 dropped healthy links to 6.3.1 (tried)."""

Sink = Callable[["list[Frame] | LinkLost"], None]

_HEARTBEAT = b"\n"

logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # what it would warn of is in the text of LinkLost


class _Transport(BaseTransport):  # type: ignore[misc]
    """What stomp.py reads from and writes to; MESSAGE frames are taken out of the stream before stomp.py sees them."""

    vhost = None  # Protocol12 looks for it

    def __init__(self, host: str, port: int, link: Link) -> None:
        super().__init__(auto_decode=False)
        self.current_host_and_port = (host, port)
        self.context: ssl.SSLContext | None = None
        self.channel: Channel | None = None
        self._link = link
        self._parser = Parser()

    def attempt_connection(self) -> None:
        """Called by `start`. Raises OSError."""
        self.channel = open_channel(*self.current_host_and_port, self.context, CONNECT_TIMEOUT)

    def receive(self) -> bytes:
        """Read once; deliver the messages; return the other frames, or a heart-beat, or nothing at the end."""
        try:
            chunk = self._open_channel().receive()
        except (OSError, StompException) as error:
            return self._fail(f"the connection broke: {_words(error)}", error, by_broker=True)
        if not chunk:
            return self._fail("the broker closed the connection", by_broker=True)
        try:
            others = self._sort(frames := self._parser.feed(chunk))
            if frames and len(chunk) < FEW_BYTES:
                time.sleep(PAUSE)
            return others
        except FrameError as error:
            return self._fail(str(error), error)
        except Exception as error:  # stomp.py would swallow it
            return self._fail(f"the reader failed: {error!r}", error)

    def send(self, data: bytes) -> None:
        """Send bytes that are whole frames, or a heart-beat: that never waits, or the silence would go unnoticed."""
        channel = self._open_channel()
        if data == _HEARTBEAT:
            channel.send_now(data)
        else:
            channel.send(data)

    def process_frame(self, frame: object, frame_str: bytes) -> None:
        """Let stomp.py and its listeners take a frame that is not a MESSAGE."""
        try:
            super().process_frame(frame, frame_str)
        except Exception as error:  # stomp.py would swallow it
            self._fail(f"the reader failed: {error!r}", error)

    def disconnect_socket(self) -> None:
        """Called by stomp.py when its heart-beats find no sign of life."""
        self._link.drop("no heart-beat from the broker")

    def cut(self) -> None:
        """End the reading thread, whatever it or a writer waits for."""
        self.running = False
        if self.channel is not None:
            self.channel.cut()

    def cleanup(self) -> None:
        """Called by stomp.py as the reading thread ends. The unfinished frame goes: gc finds what is left here late."""
        self._parser = Parser()
        if self.channel is not None:
            self.channel.close()

    def _open_channel(self) -> Channel:
        if self.channel is None:
            raise NotConnectedException("not connected")
        return self.channel

    def _fail(self, reason: str, error: Exception | None = None, *, by_broker: bool = False) -> bytes:
        self._link._end(reason, error, by_broker=by_broker)
        return b""

    def _sort(self, frames: list[Frame]) -> bytes:
        rare = [frame for frame in frames if not frame.head.startswith(MESSAGE)]
        if rare:
            frames, rare = _until_error(frames)
        if frames and self.running:
            self._link._sink(frames)
        return b"".join(frame.wire() for frame in rare) or _HEARTBEAT


class _Events(stomp.ConnectionListener):  # type: ignore[misc]
    """What stomp.py reports of the rare frames."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_connected(self, frame: object) -> None:
        self._link._connected(dict(frame.headers))  # type: ignore[attr-defined]

    def on_receipt(self, frame: object) -> None:
        self._link._receipt(frame.headers["receipt-id"])  # type: ignore[attr-defined]

    def on_error(self, frame: object) -> None:
        self._link._error(frame.headers.get("message") or _first_line(frame.body))  # type: ignore[attr-defined]


class Link:
    """One connection to a broker. It is made once, connected once, and never comes back.

    `sink` is called on the link's reading thread with batches of MESSAGE frames in the order of the broker, and
    exactly once, last, with a `LinkLost` that says why it ended. An exception that `sink` raises ends the link.
    Nothing after an ERROR frame is delivered. A link whose `connect` raised calls `sink` never.
    """

    def __init__(self, broker: Broker, sink: Sink) -> None:
        self.broker = broker
        self.identity = uuid.uuid4().hex
        """Unique for this connection; part of its echo topic and of the headers that its sends carry."""
        self.session = ""
        """The broker's id of this connection (header `session` of CONNECTED)."""
        self.server = ""
        """What the broker says it is (header `server` of CONNECTED), such as `ActiveMQ/6.3.1`."""
        self._sink = sink
        self._reason = ""
        self._by_broker = False
        self._cause: Exception | None = None
        self._refused = False
        self._answered = threading.Event()
        self._goodbye = uuid.uuid4().hex
        self._reader: threading.Thread | None = None
        self._transport = _Transport(broker.host, broker.port, self)
        beat = int(broker.heartbeat * 1000)
        self._protocol = Protocol12(self._transport, (beat, beat), heart_beat_receive_scale=HEARTBEAT_SCALE)
        self._transport.set_listener("kalinka", _Events(self))
        self._transport.override_threading(self._start_reader)

    def connect(self) -> None:
        """Connect and log in. Raises LinkRefused if the broker says no, LinkLost if it cannot be reached.

        Secrets and certificates are read afresh; what cannot be read is a LinkLost too, since it may be back soon.
        """
        broker = self.broker
        try:
            passcode = broker.passcode.read() if broker.passcode else None
            if broker.secure:
                self._transport.context = (broker.tls or Tls()).context()
            self._transport.start()
        except (OSError, ValueError) as error:
            raise LinkLost(f"{broker.name}: cannot connect to {broker.stomp}: {_words(error)}") from error
        if self._reason:
            self._transport.cut()  # dropped while it was connecting
        with contextlib.suppress(OSError, StompException):  # the reading thread finds out why
            self._protocol.connect(broker.login, passcode, with_connect_command=True)
        self._await_answer()

    def subscribe(
        self, destination: str, number: str, ack: str = "auto", headers: dict[str, str] | None = None
    ) -> None:
        """Send SUBSCRIBE. A refusal comes as an ERROR frame, which ends the link. Raises LinkLost."""
        self._guarded(lambda: self._protocol.subscribe(destination, number, ack=ack, headers=headers))

    def write(self, data: bytes) -> None:
        """Send whole frames with one system call. Blocks while the broker does not read. Raises LinkLost."""
        self._guarded(lambda: self._transport.send(data))

    def heard(self) -> None:
        """Count as a heart-beat from the broker: for a sink that holds the reading thread back on purpose."""
        self._transport.notify("heartbeat")

    def disconnect(self) -> None:
        """Leave in order: DISCONNECT, wait for its receipt (5 seconds at most), close. Not from `sink`.

        Everything that was written before has been taken by the broker when `sink` hears "disconnected".
        """
        timer = threading.Timer(DISCONNECT_TIMEOUT, self.drop, ["no receipt for DISCONNECT"])
        timer.start()
        with contextlib.suppress(LinkLost):
            self._guarded(lambda: self._protocol.send_frame("DISCONNECT", {"receipt": self._goodbye}))
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(2 * DISCONNECT_TIMEOUT)
        timer.cancel()

    def drop(self, reason: str) -> None:
        """End the link at once, from any thread; the first reason is the one that `sink` hears.

        While `connect` still waits for TCP or TLS, it ends after that.
        """
        self._end(reason)

    def _end(self, reason: str, cause: Exception | None = None, *, by_broker: bool = False) -> None:
        if not self._reason:
            self._reason, self._cause, self._by_broker = reason, cause, by_broker
        self._transport.cut()

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            send()
        except (OSError, StompException) as error:
            self._end(f"cannot send: {_words(error)}", error, by_broker=True)
            raise self._lost() from error

    def _await_answer(self) -> None:
        if not self._answered.wait(CONNECT_TIMEOUT):
            self._end("no answer to CONNECT")
            self._answered.wait(CONNECT_TIMEOUT)  # by CONNECTED after all, or by the end of the reading thread
        if self.session:
            return
        if self._refused:
            raise LinkRefused(f"{self.broker.name}: {self._reason}")
        raise self._lost()

    def _lost(self) -> LinkLost:
        lost = LinkLost(f"{self.broker.name}: {self._reason}")
        lost.__cause__ = self._cause
        lost.by_broker = self._by_broker
        return lost

    def _connected(self, headers: dict[str, str]) -> None:
        self.server = headers.get("server", "")
        self.session = headers.get("session") or "-"
        self._answered.set()

    def _receipt(self, number: str) -> None:
        if number == self._goodbye:
            self._end("disconnected")

    def _error(self, text: str) -> None:
        self._refused = not self.session
        self._end(f"the broker reported an error: {text}", by_broker=True)

    def _start_reader(self, loop: Callable[[], None]) -> threading.Thread:
        self._reader = threading.Thread(target=self._read, args=(loop,), name=f"link-{self.broker.name}", daemon=True)
        self._reader.start()
        return self._reader

    def _read(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        finally:
            self._answered.set()
            if self.session:
                self._sink(self._lost())


def _until_error(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Return the messages and the other frames, up to the first ERROR: what comes after it proves nothing any more."""
    messages, rare = list[Frame](), list[Frame]()
    for frame in frames:
        (messages if frame.head.startswith(MESSAGE) else rare).append(frame)
        if frame.command == b"ERROR":
            break
    return messages, rare


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _first_line(body: object) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    return text.strip().split("\n", 1)[0]
