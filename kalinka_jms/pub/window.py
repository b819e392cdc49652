"""The messages of one queue that were received and are not yet acknowledged to the broker."""

from __future__ import annotations

from collections import deque
from typing import Any

from kalinka_jms.stomp.frames import Frame

ACK, NACK = b"ACK", b"NACK"


class Pending:
    """One message between its receipt and its acknowledgement.

    Kafka's client calls it with the answer for its record: one object for each message, and nothing else, is what the
    bookkeeping costs.
    """

    __slots__ = ("frame", "verdict", "window")

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
        self._order: deque[Pending] = deque()
        self.open = self._order.append
        """Add a message that goes to Kafka now."""

    def __len__(self) -> int:
        return len(self._order)

    def settle(self) -> tuple[bytes, int, int]:
        """Take away the prefix that has a verdict.

        Returns the frames that tell the broker, and how many messages and bytes they stand for. One ACK covers all
        before it; a NACK touches its own message only, and comes when everything before it is acknowledged.
        """
        order = self._order
        told: list[Pending] = []
        count = size = 0
        while order and order[0].verdict:
            pending = order.popleft()
            count += 1
            size += len(pending.frame.head) + len(pending.frame.body)
            if told and told[-1].verdict == ACK == pending.verdict:
                told.pop()
            told.append(pending)
        return b"".join([_frame(pending) for pending in told]), count, size


def _frame(pending: Pending) -> bytes:
    """The id goes back as it came, still escaped."""
    return b"%b\nid:%b\n\n\x00" % (pending.verdict, pending.frame.raw("ack") or b"")
