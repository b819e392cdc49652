"""What the dispatcher decides about records, and whoever carries that out has to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kalinka_jms.sub.share import Item, Share, Stream


class Outcomes(Protocol):
    """What the dispatcher decides."""

    def delivered(self, share: Share, items: Sequence[Item]) -> None: ...

    def freshen(self, stream: Stream, now: float) -> None:
        """The stream is about to be sent: end what of it is too old."""

    def park(self, stream: Stream, now: float, *, retry: bool) -> None:
        """Park all of the stream. `retry`: the registry says that it listens, so no event may announce the change."""

    def move(self, stream: Stream, group: str, now: float) -> None:
        """Hand all of the stream to another group."""

    def reject(self, stream: Stream, item: Item, reason: str) -> None:
        """A record, gone from the stream, that its broker will never take."""

    def drained(self, stream: Stream) -> None:
        """The stream has nothing to send any more."""
