"""Kinds of messages: their heads differ in nothing but what is each message's own.

What becomes of a message is worked out once for its kind; of the message itself only its id is needed then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from kalinka_jms.metrics.buckets import Buckets
from kalinka_jms.pub.window import Window
from kalinka_jms.records import to_record
from kalinka_jms.routes import CACHED, Uplink
from kalinka_jms.stomp.frames import MESSAGE, Frame

LARGE = 4096
"""Bytes of a head from which on its kind is made each time: properties of a JMS client may have a megabyte."""

_LENGTH_FIRST = MESSAGE + b"\ncontent-length:"
_ACK, _ID, _TIME = b"\nack:", b"\nmessage-id:", b"\ntimestamp:"


@dataclass(frozen=True, slots=True)
class Kind:
    """What the messages of one kind become."""

    window: Window
    tally: Buckets
    """Where they are counted when Kafka has them."""
    topic: str
    key: bytes | None
    start: bytes
    """What stands before the payload."""
    headers: tuple[tuple[str, bytes], ...]
    """What follows the header with the id."""


class Kinds:
    """The kinds that one session has seen, the last used `CACHED` of them."""

    def __init__(
        self,
        broker: str,
        uplink: Callable[[Frame], Uplink],
        windows: Mapping[bytes | None, Window],
        confirmed: defaultdict[str, Buckets],
    ) -> None:
        self._made = partial(_made, broker, uplink, windows, confirmed)  # no method: it would live until gc finds it
        self._known = lru_cache(CACHED)(self._made)

    def of(self, frame: Frame) -> tuple[Kind, bytes]:
        """The kind of a message, and its id as the frame has it. Raises RecordError where no record can be made."""
        head = frame.head
        begin = head.find(b"\n", len(_LENGTH_FIRST)) if head.startswith(_LENGTH_FIRST) else 0
        ack, id = head.find(_ACK, begin), head.find(_ID, begin)
        ack_end, id_end = head.find(b"\n", ack + len(_ACK)), head.find(b"\n", id + len(_ID))
        time = head.find(_TIME, id_end)
        if not 0 < ack < ack_end <= id < id_end <= time:  # not as ActiveMQ writes it: exact all the same
            return self._made(head), frame.raw("message-id") or b""
        time_end = head.find(b"\n", time + len(_TIME))
        after = b"" if time_end < 0 else head[time_end:]
        common = head[begin : ack + len(_ACK)] + head[ack_end : id + len(_ID)] + head[id_end:time] + after
        return (self._known if len(common) <= LARGE else self._made)(common), head[id + len(_ID) : id_end]


def _made(
    broker: str,
    uplink: Callable[[Frame], Uplink],
    windows: Mapping[bytes | None, Window],
    confirmed: defaultdict[str, Buckets],
    head: bytes,
) -> Kind:
    """`head`: of any message of the kind, with or without the values that are each message's own."""
    frame = Frame(head, b"")
    found = uplink(frame)
    topic, key, start, (_, *headers) = to_record(frame, found, broker)
    return Kind(windows[frame.raw("subscription")], confirmed[found.route], topic, key, start or b"", tuple(headers))
