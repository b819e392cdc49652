"""STOMP 1.2 frames ⇄ bytes, many at a time.

The hot path of both pipelines: a frame is cut out of the byte stream with `bytes.find`, its headers are looked at only
when somebody asks for one. Where a header is repeated the first one counts; escapes are those of STOMP 1.2
(https://stomp.github.io/stomp-specification-1.2.html).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from kalinka_jms.errors import FrameError

MAX_HEADER = 1024 * 1024
"""Bytes a command and its headers may take. An MQTT topic may have 65,535 bytes and escapes may double them: a bound
below that would let one device stop the stream for good (ActiveMQ limits only the headers that it reads)."""

MAX_BODY = 100 * 1024 * 1024
"""Bytes a body may take: the most ActiveMQ's STOMP codec sends (`StompWireFormat.MAX_DATA_LENGTH`)."""

MESSAGE = b"MESSAGE"
COMMANDS = frozenset((MESSAGE, b"CONNECTED", b"RECEIPT", b"ERROR"))
"""What a server may send."""

_PLAIN = MESSAGE + b"\n"
_LENGTH = b"\ncontent-length:"
_EOL = b"\r\n"
_BLANK = b"\n\n"
_BLANK_CRLF = b"\n\r\n"
_SMALL = 4096
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
    """Return the bytes of one frame, with a `content-length` where it has a body.

    A SEND always has one: without it ActiveMQ makes a text message.
    """
    lines = [command, *(f"{escape(name)}:{escape(value)}" for name, value in headers)]
    if body or command == "SEND":
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

    What is kept between two feeds is bounded by `max_header` + `max_body` + 4 bytes: what goes beyond raises
    FrameError, as does everything that is not STOMP of a server. Once it raised, it raises at every further feed.
    """

    def __init__(self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._rest: list[bytes | bytearray] = []
        self._have = 0
        self._need = 0
        self._wanted = b""
        self._limit = 0
        self._failure = ""

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished frame that are kept for the next feed."""
        return self._have

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete, in order. Raises FrameError."""
        if self._failure:
            raise FrameError(self._failure)
        if self._have:
            have = self._have + len(data)
            if have < self._need or (have <= self._limit and self._wanted not in data):
                self._keep(data)
                return []
            data = b"".join((*self._rest, data))
        frames: list[Frame] = []
        tail = b""
        try:
            tail = data[self._cut(data, frames) :]
        except FrameError as error:
            self._failure = str(error)
            raise
        finally:
            self._rest, self._have = [tail], len(tail)
        return frames

    def _keep(self, data: bytes) -> None:
        """Keep bytes that complete nothing. Small ones are joined, or each would take many times its size."""
        last = self._rest[-1]
        if len(data) >= _SMALL:
            self._rest.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._rest.append(bytearray(data))
        self._have += len(data)

    def _wait(self, need: int = 0, wanted: bytes = b"", limit: int = 0) -> None:
        """Say when to look again: there are `need` bytes, and `wanted` came or there are more than `limit` bytes."""
        self._need, self._wanted, self._limit = need, wanted, limit

    def _cut(self, data: bytes, frames: list[Frame]) -> int:
        """Append all whole frames of `data`; return where the unfinished one begins."""
        at, size = 0, len(data)
        while True:
            at = self._cut_plain(data, at, frames)
            while at < size and data[at] in _EOL:
                at += 1
            if at == size:
                return at
            head, start = self._head(data, at)
            end = self._end(data, at, start, head) if head else -1
            if end < 0:
                return at
            frames.append(Frame(head, data[start:end]))
            at = end + 1

    def _cut_plain(self, data: bytes, at: int, frames: list[Frame]) -> int:
        """Append the whole frames from `at` on that are as ActiveMQ writes a MESSAGE; stop before any other."""
        find, startswith, append = data.find, data.startswith, frames.append
        reach = self._max_header + 2
        while True:
            if startswith(b"\n", at):
                at += 1
            stop = find(b"\n\n", at, at + reach) if startswith(_PLAIN, at) else -1
            if stop < 0:
                return at
            head = data[at:stop]
            mark = find(_LENGTH, at, stop)
            start = stop + 2
            if mark < 0:
                end = find(b"\x00", start)
            else:
                digits = data[mark + 16 : find(b"\n", mark + 16)]
                end = start + int(digits) if digits.isdigit() and len(digits) <= 9 else -1
            if end < 0 or end - start > self._max_body or data[end : end + 1] != b"\x00" or b"\r" in head:
                return at
            append(Frame(head, data[start:end]))
            at = end + 1

    def _head(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Return the header block that begins at `at`, and where its body begins (empty: not all here yet)."""
        command, line_end, _ = data[at : at + 16].partition(b"\n")
        _check_command(command.removesuffix(b"\r"), whole=bool(line_end))
        end, start = self._blank_line(data, at, command.endswith(b"\r"))
        if end < 0:
            if len(data) - at > self._max_header + 2:
                raise FrameError(f"a STOMP header of more than {self._max_header} bytes")
            self._wait(wanted=line_end, limit=self._max_header + 2)
            return b"", -1
        head = data[at:end]
        if b"\r" in head:
            head = head.replace(b"\r\n", b"\n").removesuffix(b"\r")
        return head, start

    def _blank_line(self, data: bytes, at: int, crlf: bool) -> tuple[int, int]:
        """Return where the header ends and where the body begins (-1: not here yet).

        `crlf` says which line end is looked for first, so that the other one is only looked for before it.
        """
        reach = at + self._max_header
        end, start = -1, -1
        for blank in (_BLANK_CRLF, _BLANK) if crlf else (_BLANK, _BLANK_CRLF):
            found = data.find(blank, at, reach + len(blank) if end < 0 else end + 1)
            if found >= 0:
                end, start = found, found + len(blank)
        return end, start

    def _end(self, data: bytes, at: int, start: int, head: bytes) -> int:
        """Return where the NUL stands that ends the body which begins at `start` (-1: not here yet)."""
        length = self._content_length(head)
        if length is None:
            return self._open_end(data, at, start)
        end = start + length
        if end >= len(data):
            self._wait(need=end + 1 - at)
            return -1
        if data[end] != 0:
            raise FrameError(f"no NUL after a body of content-length {length}")
        return end

    def _open_end(self, data: bytes, at: int, start: int) -> int:
        end = data.find(b"\x00", start)
        if (len(data) if end < 0 else end) - start > self._max_body:
            raise FrameError(f"a STOMP body of more than {self._max_body} bytes")
        if end < 0:
            self._wait(wanted=b"\x00", limit=start - at + self._max_body)
        return end

    def _content_length(self, head: bytes) -> int | None:
        at = head.find(_LENGTH)
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
