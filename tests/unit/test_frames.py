"""The frames: equal to stomp.py's parser wherever the stream is split; on what is not STOMP a FrameError, no more."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import pytest
import stomp
from hypothesis import given
from hypothesis import strategies as st
from stomp.transport import BaseTransport
from stomp.utils import parse_frame

from kalinka_jms.errors import FrameError
from kalinka_jms.frames import MAX_HEADER, Frame, Parser, encode, escape, unescape

HEADER, BODY = 256, 512
"""Bytes: the small bounds that the hostile streams run into."""


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


Told = tuple[str, dict[str, str], bytes]
"""What a parser made of a frame: command, the first value of each header, body."""

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


class _Replay(BaseTransport, stomp.ConnectionListener):  # type: ignore[misc]
    """stomp.py's own reader on a stream that is already here."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__(auto_decode=False)
        self._chunks = iter(chunks)
        self.frames: list[Told] = []
        self.set_listener("replay", self)
        self.override_threading(lambda loop: loop())

    def receive(self) -> bytes:
        return next(self._chunks, b"")

    def _keep(self, frame: stomp.utils.Frame) -> None:
        self.frames.append((frame.cmd, frame.headers, frame.body))

    on_message = on_connected = on_receipt = on_error = _keep


def theirs(chunks: Iterable[bytes]) -> list[Told]:
    replay = _Replay(chunks)
    replay.start()
    return replay.frames


def told(frame: Frame, names: Iterable[str]) -> Told:
    return frame.command.decode(), {name: frame.header(name) or "" for name in names}, frame.body


@given(STREAMS, CUTS)
def test_equal_to_stomp_py_wherever_it_is_split(stream: list[Sample], cuts: list[int]) -> None:
    expected = theirs(sample.wire() + sample.beats for sample in stream)
    assert len(expected) == len(stream)
    frames = ours(pieces(b"".join(sample.wire() + sample.beats for sample in stream), cuts))
    assert [told(frame, known[1]) for frame, known in zip(frames, expected, strict=True)] == expected


@given(samples())
def test_equal_to_parse_frame(sample: Sample) -> None:
    known = parse_frame(sample.wire()[:-1])
    (frame,) = ours([sample.wire()])
    assert told(frame, known.headers) == (known.cmd, known.headers, known.body)
    assert frame.header("a name that no frame has") is None


@given(st.lists(samples(), min_size=1, max_size=3))
def test_byte_by_byte(stream: list[Sample]) -> None:
    data = b"\n\r\n" + b"".join(sample.wire() + sample.beats for sample in stream)
    whole = ours([data])
    split = ours(data[at : at + 1] for at in range(len(data)))
    assert [(frame.head, frame.body) for frame in split] == [(frame.head, frame.body) for frame in whole]
    assert [frame.body for frame in whole] == [sample.body for sample in stream]


@given(samples())
def test_wire_stands_for_the_same_frame(sample: Sample) -> None:
    (frame,) = ours([sample.wire()])
    (again,) = ours([frame.wire()])
    assert (again.head, again.body) == (frame.head, frame.body)
    assert len(frame.wire()) == frame.size


@given(st.lists(st.tuples(NAMES, TEXT), max_size=5), BODIES, CUTS)
def test_encode_and_back(headers: list[tuple[str, str]], body: bytes, cuts: list[int]) -> None:
    (frame,) = ours(pieces(encode("MESSAGE", headers, body), cuts))
    first = dict(reversed(headers))
    assert told(frame, first) == ("MESSAGE", first, body)


def test_a_send_without_payload_says_so() -> None:
    assert encode("SEND", [("destination", "/topic/a:b")]) == b"SEND\ndestination:/topic/a\\cb\ncontent-length:0\n\n\0"
    assert encode("BEGIN", [("transaction", "1")]) == b"BEGIN\ntransaction:1\n\n\0"


@given(TEXT)
def test_unescape_undoes_escape(text: str) -> None:
    assert unescape(escape(text)) == text


@pytest.mark.parametrize("value", ["\\t", "a\\", "\\\\\\", "\\C", "\\0"])
def test_an_unknown_escape(value: str) -> None:
    (frame,) = ours([f"MESSAGE\nfine:yes\nodd:{value}\n\n\0".encode()])
    assert (frame.header("fine"), frame.raw("odd")) == ("yes", value.encode())
    with pytest.raises(FrameError, match="escape"):
        frame.header("odd")


def test_a_header_that_is_not_utf8() -> None:
    (frame,) = ours([b"MESSAGE\nodd:\xff\n\n\0"])
    with pytest.raises(FrameError, match="odd is not UTF-8"):
        frame.header("odd")


@pytest.mark.parametrize(
    ("wire", "head", "body"),
    [
        (b"MESSAGE\r\na:b\r\n\r\n\nbody\0", b"MESSAGE\na:b", b"\nbody"),
        (b"MESSAGE\na:b\r\n\r\n\nbody\0", b"MESSAGE\na:b", b"\nbody"),
        (b"MESSAGE\r\na:b\n\n\r\n\r\nbody\0", b"MESSAGE\na:b", b"\r\n\r\nbody"),
        (b"MESSAGE\na:b\n\r\n\n\0", b"MESSAGE\na:b", b"\n"),
        (b"MESSAGE\na:b\r\n\nbody\0", b"MESSAGE\na:b", b"body"),
        (b"MESSAGE\n\n\0", b"MESSAGE", b""),
        (b"MESSAGE\r\n\r\n\0", b"MESSAGE", b""),
        (b"MESSAGE\r\n\n\0", b"MESSAGE", b""),
        (b"MESSAGE\na:x\ry\nb:\n\n\0", b"MESSAGE\na:x\ry\nb:", b""),
        (b"MESSAGE\na:x\0y\ncontent-length:1\n\n\0\0", b"MESSAGE\na:x\0y\ncontent-length:1", b"\0"),
        (b"MESSAGE\ncontent-length:1\ncontent-length:9\n\nx\0", b"MESSAGE\ncontent-length:1\ncontent-length:9", b"x"),
        (b"MESSAGE\r\ncontent-length:0003\r\n\r\n\0\r\n\0", b"MESSAGE\ncontent-length:0003", b"\0\r\n"),
    ],
)
def test_the_corners_of_the_grammar(wire: bytes, head: bytes, body: bytes) -> None:
    for chunks in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
        (frame,) = ours(chunks)
        assert (frame.head, frame.body) == (head, body)


HOSTILE = {
    "a header without an end": (b"MESSAGE\n" + b"a:b\n" * 100, "header of more than 256"),
    "a line without an end": (b"MESSAGE\na:" + b"b" * 300, "header of more than 256"),
    "a body without an end": (b"MESSAGE\na:b\n\n" + b"x" * 600, "body of more than 512"),
    "a whole body that is too long": (b"MESSAGE\na:b\n\n" + b"x" * 513 + b"\0", "body of more than 512"),
    "content-length is huge": (b"MESSAGE\ncontent-length:9999999999999\n\n", "content-length 9999999999999 is more"),
    "content-length is vast": (b"MESSAGE\ncontent-length:" + b"9" * 200 + b"\n\n", "not a number"),
    "content-length is just too long": (b"MESSAGE\ncontent-length:513\n\n", "content-length 513 is more"),
    "content-length is negative": (b"MESSAGE\ncontent-length:-1\n\n\0", "not a number"),
    "content-length has a sign": (b"MESSAGE\ncontent-length:+1\n\nx\0", "not a number"),
    "content-length is empty": (b"MESSAGE\ncontent-length:\n\nx\0", "not a number"),
    "content-length is garbage": (b"MESSAGE\ncontent-length:1e1\n\n0123456789\0", "not a number"),
    "content-length is Arabic": ("MESSAGE\ncontent-length:\u0663\n\nabc\0".encode(), "not a number"),
    "content-length is too small": (b"MESSAGE\ncontent-length:1\n\nabc\0", "no NUL"),
    "the NUL is missing": (b"MESSAGE\ncontent-length:1\n\nxMESSAGE\n\n\0", "no NUL"),
    "an unknown command": (b"MESSAGES\n\n\0", "not a STOMP frame"),
    "a command of clients": (b"SEND\ndestination:/queue/a\n\n\0", "not a STOMP frame"),
    "a command in small letters": (b"message\n\n\0", "not a STOMP frame"),
    "a command with a blank": (b"MESSAGE \n\n\0", "not a STOMP frame"),
    "no command": (b"\0", "not a STOMP frame"),
    "a web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a STOMP frame"),
    "a TLS alert": (b"\x15\x03\x03\x00\x02\x02\x50", "not a STOMP frame"),
    "a command without an end": (b"E" * 300, "not a STOMP frame"),
    "binary garbage": (bytes(range(255, 0, -1)), "not a STOMP frame"),
}


@pytest.mark.parametrize("before", [b"", b"MESSAGE\ncontent-length:1\n\nx\0\n"], ids=["first", "after a message"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_streams(name: str, before: bytes) -> None:
    data, text = HOSTILE[name]
    for size in (1, 7, 10_000):
        parser = Parser(HEADER, BODY)
        with pytest.raises(FrameError, match=text):
            feed_bounded(parser, pieces(before + data, range(0, len(before + data), size)))
        assert_failed(parser)


def feed_bounded(parser: Parser, chunks: Iterable[bytes]) -> list[Frame]:
    """What comes out of a parser with the small bounds, which it must keep all the while."""
    frames = []
    for chunk in chunks:
        frames += parser.feed(chunk)
        assert parser.buffered <= HEADER + BODY + 4
    return frames


def assert_failed(parser: Parser) -> None:
    for data in (b"", b"\n", b"MESSAGE\n\n\0"):
        with pytest.raises(FrameError):
            parser.feed(data)
    assert parser.buffered == 0


def test_the_bounds_are_exact() -> None:
    head = b"MESSAGE\na:" + b"b" * (HEADER - 10)
    for wire in (head + b"\n\n" + b"x" * BODY + b"\0", head[:-1] + b"\r\n\r\n" + b"x" * BODY + b"\0"):
        for size in (1, 10_000):
            (frame,) = feed_bounded(Parser(HEADER, BODY), pieces(wire, range(0, len(wire), size)))
            assert len(frame.body) == BODY
    (frame,) = feed_bounded(Parser(HEADER, BODY), [b"MESSAGE\ncontent-length:512\n\n", b"x" * 512, b"\0"])
    assert len(frame.body) == BODY


def test_a_body_in_tiny_pieces_takes_little_more_than_its_size() -> None:
    size = 300_000
    parser = Parser()
    parser.feed(b"MESSAGE\ncontent-length:%d\n\n" % size)
    tracemalloc.start()
    try:
        for _ in range(size):
            parser.feed(bytes(1))
        assert tracemalloc.get_traced_memory()[0] < 2 * size
    finally:
        tracemalloc.stop()
    (frame,) = parser.feed(b"\0")
    assert frame.body == bytes(size)


def test_the_longest_topic_of_mqtt_fits() -> None:
    topic = "/topic/" + ":" * 65535
    (frame,) = ours(pieces(encode("MESSAGE", [("destination", "/queue/q"), ("original-destination", topic)]), [60000]))
    assert frame.header("original-destination") == topic
    assert frame.size < MAX_HEADER


def outcome(chunks: Iterable[bytes]) -> list[tuple[bytes, bytes]] | None:
    """All frames, or None where the stream ended in a FrameError."""
    parser = Parser(HEADER, BODY)
    try:
        frames = feed_bounded(parser, chunks)
    except FrameError:
        assert_failed(parser)
        return None
    for frame in frames:
        with suppress(FrameError):
            frame.header("destination")
        assert isinstance(repr(frame), str)
    return [(frame.head, frame.body) for frame in frames]


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat"]), st.integers(0, 3000), st.binary(min_size=1, max_size=8)
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, noise in mutations:
        at = place % (len(data) + 1)
        after = {
            "flip": noise + data[at + len(noise) :],
            "cut": data[at + len(noise) :],
            "insert": noise + data[at:],
            "repeat": data[max(0, at - 20) :],
        }
        data = data[:at] + after[kind]
    return data


@given(st.binary(max_size=900), CUTS)
def test_random_bytes(data: bytes, cuts: list[int]) -> None:
    assert outcome(pieces(data, cuts)) == outcome([data])


@given(st.text(st.sampled_from("MESAG\r\n\0:ab\\"), max_size=60), CUTS)
def test_nearly_stomp(noise: str, cuts: list[int]) -> None:
    data = b"MESSAGE\ncontent-length:3\n\nabc\0MESSAGE\n" + noise.encode()
    assert outcome(pieces(data, cuts)) == outcome([data])


@given(st.lists(samples(), min_size=1, max_size=4), MUTATIONS, CUTS)
def test_mutations_of_valid_streams(
    stream: list[Sample], mutations: list[tuple[str, int, bytes]], cuts: list[int]
) -> None:
    data = mutated(b"".join(sample.wire() + sample.beats for sample in stream), mutations)
    known = outcome([data])
    assert outcome(pieces(data, cuts)) == known
    assert outcome(pieces(data, range(len(data)))) == known
