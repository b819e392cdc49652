"""The frames on what is not STOMP: a FrameError and no more, in bounded memory, wherever the stream is split."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import CUTS, Sample, ours, pieces, samples

from kalinka_jms.errors import FrameError
from kalinka_jms.stomp.frames import MAX_HEADER, Frame, Parser, encode

HEADER, BODY = 256, 512
"""Bytes: the small bounds that the hostile streams run into."""

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
