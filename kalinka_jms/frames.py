"""STOMP 1.2 frames ⇄ bytes, many at a time.

The hot path of both pipelines: a frame is cut out of the byte stream with `bytes.find`, its headers are looked at only
when somebody asks for one. Where a header is repeated the first one counts; escapes are those of STOMP 1.2
(https://stomp.github.io/stomp-specification-1.2.html).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from kalinka_jms.errors import FrameError

MAX_HEADER = 64 * 1024
"""Bytes a command and its headers may take. ActiveMQ itself refuses more than about 10 KiB (tried on 6.3.1)."""

MAX_BODY = 100 * 1024 * 1024
"""Bytes a body may take: the most ActiveMQ's STOMP codec sends (`StompWireFormat.MAX_DATA_LENGTH`)."""

MESSAGE = b"MESSAGE"
COMMANDS = frozenset((MESSAGE, b"CONNECTED", b"RECEIPT", b"ERROR"))
"""What a server may send."""

_PLAIN = MESSAGE + b"\n"
_EOL = b"\r\n"
_ESCAPES = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"}
_UNESCAPES = {"\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":"}
_ESCAPED = str.maketrans(_ESCAPES)


def escape(value: str) -> str:
    """Return `value` as it stands in a STOMP 1.2 header."""
    return value.translate(_ESCAPED)


def unescape(value: str) -> str:
    """Return what the header value stands for. Raises FrameError for an escape that STOMP 1.2 does not have."""
    if "\\" not in value:
        return value
    parts: list[str] = []
    at = 0
    while (slash := value.find("\\", at)) >= 0:
        parts.append(value[at:slash])
        pair = value[slash : slash + 2]
        if pair not in _UNESCAPES:
            raise FrameError(f"undefined escape {pair!r} in a STOMP header")
        parts.append(_UNESCAPES[pair])
        at = slash + 2
    parts.append(value[at:])
    return "".join(parts)


def encode(command: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """Return the bytes of one frame, with a `content-length` where it has a body."""
    lines = [command, *(f"{escape(name)}:{escape(value)}" for name, value in headers)]
    if body:
        lines.append(f"content-length:{len(body)}")
    return b"%b\n\n%b\x00" % ("\n".join(lines).encode(), body)


@lru_cache(maxsize=256)
def _needle(name: str) -> bytes:
    return b"\n" + escape(name).encode() + b":"


class Frame:
    """One frame from a broker; `head` is its command and header lines, `body` its bytes."""

    __slots__ = ("body", "head")

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body

    @property
    def command(self) -> bytes:
        """The command, e.g. `b"MESSAGE"`."""
        return self.head.partition(b"\n")[0]

    @property
    def size(self) -> int:
        """Bytes it took on the wire."""
        return len(self.head) + len(self.body) + 3

    def raw(self, name: str) -> bytes | None:
        """Return the first value of the header as it stands in the frame (still escaped), or None."""
        head, needle = self.head, _needle(name)
        at = head.find(needle)
        if at < 0:
            return None
        at += len(needle)
        end = head.find(b"\n", at)
        return head[at:] if end < 0 else head[at:end]

    def header(self, name: str) -> str | None:
        """Return the first value of the header, unescaped, or None.

        Raises FrameError where it is not UTF-8 or has an unknown escape.
        """
        value = self.raw(name)
        if value is None:
            return None
        try:
            return unescape(value.decode())
        except UnicodeDecodeError as error:
            raise FrameError(f"header {name} is not UTF-8: {value!r}") from error

    def wire(self) -> bytes:
        """Return the bytes this frame stands for on the wire."""
        return b"%b\n\n%b\x00" % (self.head, self.body)

    def __repr__(self) -> str:
        return f"Frame({self.head!r}, {len(self.body)} bytes)"


class Parser:
    """Cuts frames out of a stream of bytes, wherever the stream was split.

    Memory is bounded by `max_header` + `max_body` bytes: what goes beyond raises FrameError, as does everything that
    is not STOMP. After a FrameError the stream cannot be read any further.
    """

    def __init__(self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 1
        self._scanned = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete, in order."""
        if self._chunks or self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._chunks)
        frames: list[Frame] = []
        rest = self._cut(data, frames)
        tail = data[rest:]
        self._chunks = [tail] if tail else []
        self._have = len(tail)
        return frames

    def _cut(self, data: bytes, frames: list[Frame]) -> int:
        """Append all whole frames of `data`; return where the rest begins, and set how many bytes that rest needs."""
        at, size = 0, len(data)
        scanned, self._scanned, self._need = self._scanned, 0, 1
        while True:
            if scanned == 0:
                at = self._cut_plain(data, at, frames)
            while at < size and data[at] in _EOL:
                at += 1
            if at == size:
                return at
            head, start = self._head(data, at)
            if start < 0:
                return at
            end = self._end(data, at, start, head, scanned)
            scanned = 0
            if end < 0:
                return at
            frames.append(Frame(head, data[start:end]))
            at = end + 1

    def _cut_plain(self, data: bytes, at: int, frames: list[Frame]) -> int:
        """Append the whole frames from `at` on that are as ActiveMQ writes a MESSAGE; stop before any other."""
        find, append = data.find, frames.append
        while True:
            if data.startswith(b"\n", at):
                at += 1
            stop = find(b"\n\n", at, at + self._max_header)
            mark = find(b"\ncontent-length:", at, stop)
            if mark < 0 or stop < 0 or not data.startswith(_PLAIN, at):
                return at
            digits = data[mark + 16 : find(b"\n", mark + 16)]
            head = data[at:stop]
            if not digits.isdigit() or len(digits) > 9 or b"\r" in head:
                return at
            end = stop + 2 + int(digits)
            if data[end : end + 1] != b"\x00" or end - stop - 2 > self._max_body:
                return at
            append(Frame(head, data[stop + 2 : end]))
            at = end + 1

    def _head(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Return the header block that begins at `at`, and where its body begins (-1: not all here yet)."""
        stop = data.find(b"\n\n", at, at + self._max_header + 2)
        crlf = data.find(b"\n\r\n", at, at + self._max_header + 2 if stop < 0 else stop)
        end, start = (crlf, crlf + 3) if crlf >= 0 else (stop, stop + 2)
        if end < 0:
            if len(data) - at > self._max_header:
                raise FrameError(f"a STOMP header of more than {self._max_header} bytes")
            _check_command(data[at : at + 16].partition(b"\n")[0].rstrip(b"\r"), whole=b"\n" in data[at : at + 16])
            self._need = len(data) - at + 1
            return b"", -1
        head = data[at:end]
        if b"\r" in head:
            head = head.replace(b"\r\n", b"\n").rstrip(b"\r")
        _check_command(head.partition(b"\n")[0], whole=True)
        return head, start

    def _end(self, data: bytes, at: int, start: int, head: bytes, scanned: int) -> int:
        """Return where the NUL stands that ends the body which begins at `start` (-1: not here yet)."""
        length = self._content_length(head)
        if length is None:
            end = data.find(b"\x00", max(start, at + scanned))
            if end < 0:
                self._scanned = self._need = len(data) - at
                self._need += 1
            if (len(data) if end < 0 else end) - start > self._max_body:
                raise FrameError(f"a STOMP body of more than {self._max_body} bytes")
            return end
        end = start + length
        if end >= len(data):
            self._need = end + 1 - at
            return -1
        if data[end] != 0:
            raise FrameError(f"no NUL after a body of content-length {length}")
        return end

    def _content_length(self, head: bytes) -> int | None:
        at = head.find(b"\ncontent-length:")
        if at < 0:
            return None
        end = head.find(b"\n", at + 16)
        text = head[at + 16 :] if end < 0 else head[at + 16 : end]
        text = text.strip()
        if not text.isdigit() or len(text) > 19:
            raise FrameError(f"content-length is not a number of bytes: {text[:40]!r}")
        length = int(text)
        if length > self._max_body:
            raise FrameError(f"content-length {length} is more than {self._max_body} bytes")
        return length


def _check_command(command: bytes, *, whole: bool) -> None:
    if command in COMMANDS or (not whole and any(known.startswith(command) for known in COMMANDS)):
        return
    raise FrameError(f"not a STOMP frame of a server: {command[:16]!r}")
