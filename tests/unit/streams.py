"""Generated STOMP streams: frames in every shape that a server may send them, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from kalinka_jms.stomp.frames import Frame, Parser, escape


@dataclass(frozen=True)
class Sample:
    """One frame of a generated stream; `beats` is the white space that follows its NUL."""

    command: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    counted: bool
    eol: str
    beats: bytes

    def wire(self) -> bytes:
        headers = [*self.headers, *([("content-length", str(len(self.body)))] if self.counted else [])]
        lines = [self.command, *(f"{escape(name)}:{escape(value)}" for name, value in headers), "", ""]
        return self.eol.join(lines).encode() + self.body + b"\0"


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\\:\r\n"), max_size=12
)
NAMES = TEXT.filter(lambda name: name not in ("", "content-length")) | st.sampled_from(["destination", "message-id"])
BODIES = st.binary(max_size=40) | st.text(st.sampled_from("\0\n\r:a"), max_size=12).map(str.encode)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    command = draw(st.sampled_from(["MESSAGE", "MESSAGE", "MESSAGE", "CONNECTED", "RECEIPT", "ERROR"]))
    headers = draw(st.lists(st.tuples(NAMES, TEXT), max_size=5))
    repeated = draw(st.lists(st.sampled_from(headers), max_size=2)) if headers else []
    headers += [(name, draw(TEXT)) for name, _ in repeated]
    if command == "RECEIPT":
        headers.insert(draw(st.integers(0, len(headers))), ("receipt-id", draw(TEXT)))
    counted, body = draw(st.booleans()), draw(BODIES)
    beats = draw(st.sampled_from([b"\n", b"", b"\n\n\n", b"\r\n"]))
    eol = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    return Sample(command, tuple(headers), body if counted else body.replace(b"\0", b""), counted, eol, beats)


STREAMS = st.lists(samples(), max_size=6)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` cut at these places (counted round where they lie beyond its end)."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def ours(chunks: Iterable[bytes], parser: Parser | None = None) -> list[Frame]:
    parser = parser or Parser()
    return [frame for chunk in chunks for frame in parser.feed(chunk)]
