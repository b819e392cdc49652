"""The messages of one queue that were received and are not yet acknowledged to the broker."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Any

from kalinka_jms.metrics.buckets import BOUNDS, Buckets
from kalinka_jms.stomp.frames import Frame

ACK, NACK = b"ACK", b"NACK"

_NEVER = b"\n\n"
"""What no head of a frame holds."""


class Pending:
    """One message between its receipt and its acknowledgement.

    Kafka's client calls it with the answer for its record: one object for each message, and nothing else, is what the
    bookkeeping costs.
    """

    __slots__ = ("frame", "tally", "verdict", "window")

    tally: Buckets
    """Where its outcome is counted; set by who decides what becomes of it."""

    def __init__(self, frame: Frame, window: Window) -> None:
        self.frame = frame
        self.window = window
        self.verdict = b""
        """What the broker shall be told of it: ACK, NACK, or nothing as long as that is not known."""

    def __call__(self, error: Any, message: Any) -> None:
        if error is None:
            self.verdict = ACK
        else:
            self.window.failures.append((self, error, message.topic()))


class Window:
    """Messages in the order of their queue; what the broker is told of is always a prefix of them."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.failures: list[tuple[Pending, Any, str]] = []
        """Messages whose record has failed, with Kafka's error and the topic, until somebody deals with them."""
        self.told = 0
        """Messages that the broker was told of."""
        self._order: deque[Pending] = deque()
        self.open = self._order.append
        """Add a message that goes to Kafka now."""

    def __len__(self) -> int:
        return len(self._order)

    @property
    def oldest(self) -> int | None:
        """When the broker accepted the first of them (milliseconds since the epoch); None where that is not known."""
        return accepted(self._order[0].frame) if self._order else None

    def clear(self) -> None:
        """Let go of all messages: the broker has them. They refer to the window, and gc would find them late."""
        self._order.clear()
        self.failures.clear()

    def settle(self, now: float) -> tuple[bytes, int, int]:
        """Take away the prefix that has a verdict, and count it; `now` in seconds since the epoch.

        Returns the frames that tell the broker, and how many messages and bytes they stand for. One ACK covers all
        before it; a NACK touches its own message only, and comes when everything before it is acknowledged.
        """
        order = self._order
        told: list[Pending] = []
        count = size = 0
        stamp, age, place = _NEVER, 0.0, 0
        last = None
        while order and (verdict := order[0].verdict):
            pending = order.popleft()
            frame, tally = pending.frame, pending.tally
            head = frame.head
            count += 1
            size += len(head) + len(frame.body)
            if not head.endswith(stamp):  # under load many of the same millisecond follow each other
                when = accepted(frame)
                stamp = _NEVER if when is None else b"\ntimestamp:%d" % when
                age = 0.0 if when is None else max(now - when / 1000, 0.0)
                place = bisect_left(BOUNDS, age)
            tally.counts[place] += 1
            tally.total += age
            if verdict == last == ACK:
                told[-1] = pending
            else:
                told.append(pending)
                last = verdict
        self.told += count
        return b"".join([_frame(pending) for pending in told]), count, size


def accepted(frame: Frame) -> int | None:
    """When the broker accepted the message (milliseconds since the epoch); None where it does not say."""
    raw = frame.raw("timestamp")
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 18 else None


def _frame(pending: Pending) -> bytes:
    """The id goes back as it came, still escaped."""
    return b"%b\nid:%b\n\n\x00" % (pending.verdict, pending.frame.raw("ack") or b"")
