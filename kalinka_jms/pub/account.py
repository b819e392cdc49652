"""What came from one broker and what became of it, counted by the thread that owns the session.

`received` = the sum of all outcomes + `given_back` + what is in flight, whenever a statement is made.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from kalinka_jms.metrics.buckets import Buckets, Histogram

CONFIRMED, DEAD, REFUSED = "confirmed", "dead", "refused"


@dataclass(frozen=True, slots=True)
class Flight:
    """What is under way at one moment."""

    messages: int = 0
    bytes: int = 0
    oldest: int | None = None
    """When the broker accepted the oldest of them (milliseconds since the epoch); None where that is not known."""
    active: tuple[str, ...] = ()
    """The queues of which the broker has given messages to this session."""


@dataclass(frozen=True, slots=True)
class Statement:
    """All of one moment."""

    received: int
    given_back: int
    outcomes: tuple[tuple[str, str, Histogram], ...]
    """Route, outcome, and the seconds it took since the broker accepted the messages."""
    flight: Flight


class Account:
    """One broker's, for all sessions with it."""

    def __init__(self) -> None:
        self.received = 0
        """Messages taken in."""
        self.given_back = 0
        """Messages that had no outcome when their session ended."""
        self.confirmed: defaultdict[str, Buckets] = defaultdict(Buckets)
        """By route."""
        self.dead: defaultdict[str, Buckets] = defaultdict(Buckets)
        self.refused: defaultdict[str, Buckets] = defaultdict(Buckets)
        self.statement = Statement(0, 0, (), Flight())
        """The last one; any thread may read it."""

    def state(self, flight: Flight) -> None:
        """Make a statement: between two steps of the session, when nothing is on its way from one place to another."""
        outcomes = tuple(
            (route, outcome, buckets.copy())
            for outcome, routes in ((CONFIRMED, self.confirmed), (DEAD, self.dead), (REFUSED, self.refused))
            for route, buckets in routes.items()
        )
        self.statement = Statement(self.received, self.given_back, outcomes, flight)
