"""The broker's end of STOMP: cuts what a client wrote, makes what a broker writes; and ActiveMQ's matching of names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kalinka_jms.stomp.frames import MESSAGE, Frame, escape

_NOT_PROPERTIES = frozenset(
    ("destination", "transaction", "receipt", "content-length", "persistent", "expires", "priority")
)
"""Headers of a SEND that are not properties of its message."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message inside the fake broker. `destination` as STOMP writes it: `/topic/…` or `/queue/…`."""

    destination: str
    id: str
    headers: Headers
    body: bytes
    persistent: bool = False
    accepted: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    """When the broker took it, in milliseconds since the epoch."""

    def frame(self, subscription: str, *more: tuple[str, str]) -> Frame:
        """The MESSAGE frame with which a subscription receives it."""
        headers = [("subscription", subscription), ("message-id", self.id), ("destination", self.destination), *more]
        if self.persistent:
            headers.append(("persistent", "true"))
        headers.append(("timestamp", str(self.accepted)))
        lines = [f"{escape(name)}:{escape(value)}" for name, value in [*headers, *self.headers]]
        lines.append(f"content-length:{len(self.body)}")
        return Frame(b"%b\n%b" % (MESSAGE, "\n".join(lines).encode()), self.body)


def cut(data: bytes) -> Iterator[Frame]:
    """Yield the frames of `data`, which holds whole ones, as a client writes them."""
    at = 0
    while at < len(data):
        if data[at] in b"\r\n":
            at += 1
            continue
        stop = data.index(b"\n\n", at)
        head = data[at:stop]
        length = Frame(head, b"").raw("content-length")
        end = data.index(b"\x00", stop + 2) if length is None else stop + 2 + int(length)
        if data[end] != 0:
            raise ValueError(f"no NUL after a body of {end - stop - 2} bytes: {head!r}")
        yield Frame(head, data[stop + 2 : end])
        at = end + 1


def properties(frame: Frame) -> Headers:
    """The headers of a SEND that its message carries on."""
    names = (line.partition(b":")[0].decode() for line in frame.head.split(b"\n")[1:])
    return tuple((name, frame.header(name) or "") for name in dict.fromkeys(names) if name not in _NOT_PROPERTIES)


def overlap(one: str, other: str) -> bool:
    """Whether two names of topics can mean the same one; both may hold `*` (one level) and `>` (the rest)."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    # `a.>` means `a` as well, in ActiveMQ
    rest = left[len(right) :] or right[len(left) :]
    return not rest or rest == [">"]


def any_overlap(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns overlaps `name`."""
    return any(overlap(pattern, name) for pattern in patterns)
