"""The frames: equal to stomp.py's parser wherever the stream is split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import stomp
from hypothesis import given
from hypothesis import strategies as st
from stomp.transport import BaseTransport
from stomp.utils import parse_frame
from streams import BODIES, CUTS, NAMES, STREAMS, TEXT, Sample, ours, pieces, samples

from kalinka_jms.errors import FrameError
from kalinka_jms.stomp.frames import Frame, encode, escape, unescape

RECORDED = Path(__file__).with_name("recorded") / "activemq-6.3.1.stomp"

Told = tuple[str, dict[str, str], bytes]
"""What a parser made of a frame: command, the first value of each header, body."""


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


@given(CUTS)
def test_equal_to_stomp_py_on_a_recorded_stream(cuts: list[int]) -> None:
    """One connection to ActiveMQ 6.3.1: binary, text and empty messages, advisories, an echo, an error, heart-beats."""
    stream = RECORDED.read_bytes()
    frames = ours(pieces(stream, cuts))
    expected = theirs([stream])
    assert [told(frame, known[1]) for frame, known in zip(frames, expected, strict=True)] == expected
    assert {frame.command for frame in frames} == {b"CONNECTED", b"RECEIPT", b"MESSAGE", b"ERROR"}
    assert any(b"\0" in frame.body for frame in frames)


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
