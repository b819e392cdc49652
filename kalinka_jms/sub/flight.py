"""Transactions on their way through a broker, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kalinka_jms.sub.parcels import Parcel
from kalinka_jms.sub.share import Item, Stream


class Segment(NamedTuple):
    """A run of sends of one stream within a transaction, and those of them that nobody received, from 0."""

    stream: Stream
    items: Sequence[Item]
    absent: frozenset[int] = frozenset()


@dataclass(slots=True)
class Flight:
    """A transaction that waits for its echo."""

    segments: list[tuple[Stream, int, int]]
    """Each stream with the place of its first item, and how many it has."""
    places: set[int]
    """The routes that it has sends of."""
    silent: set[int]
    """Those of them whose canary the broker has not reported so far."""
    echo: int
    """The number that its echo has among the connection's messages."""
    doubted: list[Parcel]
    """What its echo decides about."""

    @property
    def runs(self) -> list[tuple[Stream, int]]:
        return [(stream, size) for stream, _, size in self.segments]


@dataclass(frozen=True, slots=True)
class Landing:
    """A transaction that went through: what came of it, and what its devices are to confirm."""

    segments: list[Segment]
    parcels: list[Parcel]
    doubted: list[Parcel]
    """Parcels of earlier transactions that were doubted before this one was written: all that the broker said of them
    until then has come."""
    places: set[int]
    """The routes that it has sends of."""
    silent: set[int]
    """Those where absence was not seen."""
