"""The ledger of lab traffic: what was sent, what arrived, and the verdict. It touches no network and no clock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from threading import Lock

from kalinka_jms.lab.payload import Payload

KEPT = 20
"""Single messages that a verdict names, of each kind."""


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """What keeps its order: the messages of one source to one destination through one broker (or Kafka)."""

    source: str
    destination: str
    via: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The count of a stream, or of all of them.

    `sent` are the messages that the broker or Kafka acknowledged, `received` those of them that arrived, `lost` the
    others. `unconfirmed` were sent without an acknowledgement: they may arrive or not, and count for nothing else.
    `duplicates` are arrivals after the first, `reordered` first arrivals after one with a higher number.
    Latencies in seconds from the call that sends to the first arrival; None while nothing arrived.
    """

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    unconfirmed: int = 0
    p50: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ledger says: every stream, their sum, and by name some messages that are lost, that came too late to be
    in order, and that arrived where they were not meant to (strays)."""

    total: Tally
    streams: dict[Stream, Tally]
    lost: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """Something was sent, nothing was lost, and nothing arrived where it was not meant to."""
        return self.total.sent > 0 and self.total.lost == 0 and not self.strays


@dataclass(slots=True)
class _Page:
    """The book of one stream."""

    numbers: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    arrived: set[int] = field(default_factory=set)
    confirmed: int = 0  # both acknowledged and arrived
    duplicates: int = 0
    late: list[int] = field(default_factory=list)
    highest: int = 0
    latencies: list[float] = field(default_factory=list)

    def acknowledge(self, number: int) -> None:
        if number not in self.acknowledged:
            self.acknowledged.add(number)
            self.confirmed += number in self.arrived

    def arrive(self, number: int, latency: float) -> None:
        if number in self.arrived:
            self.duplicates += 1
            return
        self.arrived.add(number)
        self.confirmed += number in self.acknowledged
        if number < self.highest:
            self.late.append(number)
        self.highest = max(self.highest, number)
        self.latencies.append(latency)

    def lost(self) -> list[int]:
        return sorted(self.acknowledged - self.arrived)


class Ledger:
    """Remembers every message of one run exactly. Safe to use from several threads."""

    def __init__(self, run: str | None = None) -> None:
        self.run = run or uuid.uuid4().hex[:8]
        self._lock = Lock()
        self._last: dict[tuple[str, str], int] = {}
        self._pages: dict[Stream, _Page] = {}
        self._streams: dict[tuple[str, str, int], Stream] = {}
        self._strays: list[str] = []
        self._stray_count = 0

    def send(self, source: str, destination: str, via: str, at: int) -> Payload:
        """Enter the next message from `source` to `destination`, about to be sent through `via` at `at` (ns)."""
        with self._lock:
            number = self._last[source, destination] = self._last.get((source, destination), 0) + 1
            stream = Stream(source, destination, via)
            self._streams[source, destination, number] = stream
            self._pages.setdefault(stream, _Page()).numbers.add(number)
        return Payload(self.run, source, destination, number, at)

    def acknowledge(self, payload: Payload) -> None:
        """Enter that the broker (PUBACK) or Kafka took the message: from now on it may not be lost."""
        with self._lock:
            self._page(payload).acknowledge(payload.number)

    def arrive(self, body: bytes, receiver: str, at: int) -> Payload | None:
        """Enter an arrival at `receiver`, at `at` (ns). None where `body` is not traffic of this run."""
        payload = Payload.decode(body)
        if payload is None or payload.run != self.run:
            return None
        with self._lock:
            if receiver == payload.destination and self._key(payload) in self._streams:
                self._page(payload).arrive(payload.number, (at - payload.at) / 1e9)
            else:
                self._stray(payload, receiver)
        return payload

    @property
    def sends(self) -> int:
        """Messages entered as sent so far, acknowledged or not."""
        return len(self._streams)

    def missing(self, destination: str | None = None) -> int:
        """Messages (to `destination`) that were acknowledged and have not arrived."""
        with self._lock:
            return sum(len(page.acknowledged) - page.confirmed for page in self._to(destination))

    def outstanding(self, destination: str | None = None) -> int:
        """Messages (to `destination`) that were sent, acknowledged or not, and have not arrived."""
        with self._lock:
            return sum(len(page.numbers) - len(page.arrived) for page in self._to(destination))

    def verdict(self) -> Verdict:
        """The verdict on everything entered so far."""
        with self._lock:
            streams = {stream: _tally([page]) for stream, page in sorted(self._pages.items(), key=lambda item: item[0])}
            lost = _named((stream, page.lost()) for stream, page in self._pages.items())
            late = _named((stream, page.late) for stream, page in self._pages.items())
            return Verdict(_tally(self._pages.values()), streams, lost, late, self._all_strays())

    def tallies(self, name: Callable[[Stream], str]) -> dict[str, Tally]:
        """The tally of all streams that `name` gives one name."""
        groups: dict[str, list[_Page]] = {}
        with self._lock:
            for stream, page in self._pages.items():
                groups.setdefault(name(stream), []).append(page)
            return {group: _tally(pages) for group, pages in groups.items()}

    def _key(self, payload: Payload) -> tuple[str, str, int]:
        return payload.source, payload.destination, payload.number

    def _page(self, payload: Payload) -> _Page:
        return self._pages[self._streams[self._key(payload)]]

    def _to(self, destination: str | None) -> list[_Page]:
        return [page for stream, page in self._pages.items() if destination in (None, stream.destination)]

    def _stray(self, payload: Payload, receiver: str) -> None:
        self._stray_count += 1
        if len(self._strays) < KEPT:
            self._strays.append(f"{payload.source} → {payload.destination} #{payload.number} arrived at {receiver}")

    def _all_strays(self) -> tuple[str, ...]:
        more = self._stray_count - len(self._strays)
        return (*self._strays, f"and {more} more") if more else tuple(self._strays)


def _tally(pages: Iterable[_Page]) -> Tally:
    pages = list(pages)
    latencies = sorted(latency for page in pages for latency in page.latencies)
    sent = sum(len(page.acknowledged) for page in pages)
    received = sum(page.confirmed for page in pages)
    return Tally(
        sent=sent,
        received=received,
        lost=sent - received,
        duplicates=sum(page.duplicates for page in pages),
        reordered=sum(len(page.late) for page in pages),
        unconfirmed=sum(len(page.numbers) for page in pages) - sent,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
        max=percentile(latencies, 100),
    )


def _named(streams: Iterable[tuple[Stream, list[int]]]) -> tuple[str, ...]:
    named = (f"{s.source} → {s.destination} by {s.via} #{number}" for s, numbers in streams for number in numbers)
    return tuple(islice(named, KEPT))


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile of values in ascending order; None where there are none."""
    if not ordered:
        return None
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]
