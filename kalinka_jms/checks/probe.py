"""A link to one broker on which every question is answered up to its echo."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.pub.sender import USER
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import ECHO_TOPIC

ECHO_TIMEOUT = 10.0
"""Seconds without a frame after which an echo counts as missing."""

Headers = Sequence[tuple[str, str]]


class NoEcho(LinkLost):
    """The broker took what was sent and did not hand the echo back."""


class Probe:
    """Subscribes once, to advisories and the echo, and asks. Opening and asking raise LinkError.

    What it sends is not persistent. It is a context manager; its end is a clean DISCONNECT.
    """

    def __init__(self, broker: Broker, advisories: Iterable[str]) -> None:
        """`advisories`: names below `ActiveMQ.Advisory.`"""
        self._frames: queue.SimpleQueue[list[Frame] | LinkLost] = queue.SimpleQueue()
        self.link = Link(broker, self._frames.put)
        self.sent = 0
        """Messages sent so far; with the session it makes the id that the broker gives to each."""
        self.user: str | None = None
        """As whom the broker knows us, where it says so with a message."""
        self._echo = f"{ECHO_TOPIC}{self.link.identity}"
        self._topics = [f"/topic/ActiveMQ.Advisory.{name}" for name in dict.fromkeys(advisories)]

    def __enter__(self) -> Self:
        self.link.connect()
        # one composite: only so the echo comes after what was asked for; the transformation that all of Kalinka uses
        composite = ",".join([*self._topics, self._echo])
        self.link.subscribe(composite, "1", headers={"transformation": "jms-advisory-json"})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.link.disconnect()
        else:
            self.link.drop("the check ended")

    def send(self, destination: str, headers: Headers = ()) -> str:
        """Send an empty message to a JMS topic; the id that the broker gives to it."""
        self.link.write(encode("SEND", [("destination", f"/topic/{destination}"), *headers]))
        self.sent += 1
        return f"{self.link.session}:-1:1:{self.sent}"

    def listen(self, topic: str, number: str) -> None:
        """Subscribe to a JMS topic, as a device would."""
        self.link.subscribe(f"/topic/{topic}", number)

    def answers(self) -> list[Frame]:
        """Everything that came up to now: an echo is sent, and what comes before it is returned."""
        mark = f"{self.link.identity}.{self.sent}"
        self.send(self._echo.removeprefix("/topic/"), [("kn", mark)])
        found: list[Frame] = []
        deadline = time.monotonic() + ECHO_TIMEOUT
        while True:
            batch = self._next(deadline)
            deadline = time.monotonic() + ECHO_TIMEOUT
            for frame in batch:
                if frame.raw("kn") == mark.encode():
                    self.user = frame.header(USER)
                    return found
                found.append(frame)

    def _next(self, deadline: float) -> list[Frame]:
        try:
            batch = self._frames.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise NoEcho(f"no echo within {ECHO_TIMEOUT:.0f} s") from None
        if isinstance(batch, LinkLost):
            raise batch
        return batch
