"""What the judge says of one leg, and what it has to excuse."""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.message import Stream

KNOWN = 2.0
"""Seconds until the bridge knows that a device left: until then a session that was left behind is given more."""


@dataclass(frozen=True, slots=True)
class Count:
    """One leg over one scenario, in messages. `dark` are those that the route's evidence cannot see (see `Window`)."""

    promised: int = 0
    lost: int = 0
    dark: int = 0
    duplicates: int = 0
    reordered: int = 0
    named: tuple[str, ...] = ()
    darkened: tuple[str, ...] = ()
    late: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Something was promised, and all of it came, in order."""
        return self.promised > 0 and not self.lost and not self.reordered


@dataclass(slots=True)
class Window:
    """A connection of a device that broke: what "delivered" rests on could not see it until `until`.

    A message that never arrived is *dark* where it was sent by `until`, and nothing that was sent after it in its
    stream had arrived when the connection broke (`floors`): only then its fate was open. Where the broker `keeps` it
    for a persistent session it is not dark: it must arrive, when the device is back at that broker, and so does what
    came there while the bridge did not know better. It is gone with the broker, though (`forget`).
    """

    device: str
    broker: str
    since: float
    floors: dict[Stream, int]
    keeps: bool = False
    until: float | None = None
    """When the broker said that the subscription had ended; None as long as it has not."""
    reached: float | None = None
    """When the device got something on its next connection; None as long as it has not."""

    def close(self, at: float) -> None:
        """The broker could know."""
        self.until = at

    def forget(self, died: float) -> None:
        """The broker died, and with it what it kept for the session."""
        if self.keeps:
            self.until = died if self.known is None else min(self.known, died)
            self.keeps = False

    @property
    def known(self) -> float | None:
        """When the broker knew and, where it keeps something, the bridge as well; None as long as they may not."""
        if self.until is None or not self.keeps:
            return self.until
        return None if self.reached is None else max(self.until + KNOWN, self.reached)

    def covers(self, stream: Stream, number: int, sent: float) -> bool:
        """Whether that message may have gone to this connection, or into the session that was left behind."""
        return number > self.floors.get(stream, 0) and (self.known is None or sent <= self.known)

    def matters(self, judged: float) -> bool:
        """Whether it may still excuse something, where what was sent until then is judged."""
        return self.known is None or self.known > judged
