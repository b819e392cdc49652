"""The judge: what was promised, what arrived, and what that means. It touches no network and reads no clock.

A stream has one or two *legs*. `up`: a device publishes; promised is what the broker PUBACKed; it must be in Kafka.
`down`: a record for a device; promised is what Kafka acknowledged to the back end, or what stands in Kafka where a
device sent it; the device must receive it. A message from device to device is judged on both.

Times are seconds of one monotonic clock, given by the callers.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

from tests.chaos.message import BACK_END, Stream
from tests.chaos.ranges import Ranges
from tests.chaos.verdict import Count, Window

Leg = Literal["up", "down"]
LEGS: tuple[Leg, ...] = ("up", "down")
KEPT = 20
"""Single messages that a verdict names, of each kind."""
SILENT = 1.0
"""Seconds without an arrival after which a group does not flow: at the usual load it has several messages a second."""

Group = tuple[str, ...]
"""Streams that recover together: ("up", broker, queue), or ("down", device)."""


@dataclass(slots=True)
class _Book:
    """One leg of one stream."""

    promised: Ranges = field(default_factory=Ranges)
    arrived: Ranges = field(default_factory=Ranges)
    late: Ranges = field(default_factory=Ranges)
    places: dict[int, str] = field(default_factory=dict)
    """The brokers where late ones came, of devices whose sessions they may have waited in."""
    duplicates: int = 0
    base: int = 0
    """Numbers up to here were judged."""
    duplicates_before: int = 0

    def arrive(self, number: int, place: str, again: bool) -> bool:
        """False where it had arrived before."""
        late = number < self.arrived.highest
        if not self.arrived.add(number):
            self.duplicates += not again
            return False
        if late:
            self.late.add(number)
            if place:
                self.places[number] = place
        return True


@dataclass(slots=True)
class _Page:
    """One stream."""

    last: int = 0
    sent: array[float] = field(default_factory=lambda: array("d"))
    books: dict[Leg, _Book] = field(default_factory=dict)

    def note(self, number: int, at: float) -> None:
        """Remember when a message was sent."""
        self.sent.extend([at] * (number - len(self.sent)))
        self.last = max(self.last, number)


class Judge:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pages: dict[Stream, _Page] = {}
        self._windows: list[Window] = []
        self._wiped: dict[Stream, tuple[int, int]] = {}
        self._strays: list[str] = []
        self._marks: dict[Stream, int] = {}
        self._blown = 0.0
        self._flowing: set[Group] = set()
        self._progress: dict[Group, float] = {}
        self._heard: dict[Group, float] = {}
        self._silence: defaultdict[Group, float] = defaultdict(float)

    # -- what happens

    def send(self, stream: Stream, at: float) -> int:
        """Enter the next message of a stream, about to be sent; its number."""
        with self._lock:
            page = self._page(stream)
            number = page.last + 1
            page.note(number, at)
            return number

    def promise(self, leg: Leg, stream: Stream, number: int) -> None:
        """Enter that the message may not be lost on this leg from now on."""
        with self._lock:
            self._book(stream, leg).promised.add(number)

    def arrive(
        self, leg: Leg, stream: Stream, number: int, receiver: str, at: float, place: str = "", again: bool = False
    ) -> None:
        """Enter an arrival: in Kafka (`up`), or at the device `receiver` (`down`).

        `place`: the broker where a device got it whose persistent sessions count as the device itself: what waits in
        one that was left behind comes when the device is back there, after what it got elsewhere meanwhile.
        `again`: with MQTT's DUP, that is what the device had left without a PUBACK; no doing of the bridge.
        """
        with self._lock:
            page = self._page(stream)
            if not 0 < number <= page.last or (leg == "down" and receiver != stream.destination):
                self._strays.append(f"{stream} #{number} arrived at {receiver}")
                return
            if self._book(stream, leg).arrive(number, place, again):
                self._move(leg, stream, number, at)

    def sent(self, stream: Stream, number: int) -> float:
        """When a message was sent; for ever ago where nobody sent it."""
        with self._lock:
            sent = self._pages[stream].sent if stream in self._pages else ()
            return sent[number - 1] if 0 < number <= len(sent) else 0.0

    def broke(self, device: str, at: float, *, keeps: bool = False, broker: str = "") -> Window:
        """A connection of the device broke in a way that the broker may not have seen; close the window when it has."""
        with self._lock:
            floors = {
                stream: page.books["down"].arrived.highest
                for stream, page in self._pages.items()
                if stream.destination == device and "down" in page.books
            }
            window = Window(device, broker, at, floors, keeps)
            self._windows.append(window)
            return window

    def wiped(self, broker: str) -> None:
        """The broker's store is gone for good: what it had PUBACKed and not handed out yet can be nowhere else."""
        with self._lock:
            for stream, page in self._pages.items():
                if stream.via == broker and "up" in page.books:
                    self._wiped[stream] = (page.books["up"].arrived.highest, page.last)

    def forgot(self, windows: list[Window], died: float) -> None:
        """What a broker kept for these sessions is gone with it (the bridge does not send persistent messages)."""
        with self._lock:
            for window in windows:
                window.forget(died)

    # -- recovery

    def blow(self, at: float) -> None:
        """From now on: how long until each group goes on.

        What was under way is no progress: only what is sent after this counts. A group that was silent already has
        nothing under way, and goes on with anything that arrives, though it were of a backlog.
        """
        with self._lock:
            self._blown = at
            self._progress = {}
            self._flowing = {group for group, heard in self._heard.items() if at - heard < SILENT}
            self._marks = {stream: page.last for stream, page in self._pages.items()}

    def afresh(self, devices: Collection[str]) -> None:
        """What these devices got since the blow was no progress: they listen somewhere else from now on."""
        with self._lock:
            for stream, page in self._pages.items():
                if stream.destination in devices:
                    self._marks[stream] = page.last
                    self._flowing.add(("down", stream.destination))
                    self._progress.pop(("down", stream.destination), None)

    def progress(self) -> dict[Group, float]:
        """Seconds from the blow to the first arrival of something sent after it, of each group that had one."""
        with self._lock:
            return dict(self._progress)

    def silences(self) -> dict[Group, float]:
        """The longest time without a first arrival, of each group, since the last `judge`."""
        with self._lock:
            return dict(self._silence)

    # -- the verdict

    def mark(self) -> dict[Stream, int]:
        """How far each stream has come."""
        with self._lock:
            return {stream: page.last for stream, page in self._pages.items()}

    def missing(self, mark: dict[Stream, int]) -> int:
        """Messages up to the mark that were promised, have not arrived, and are not dark."""
        return sum(self.count(leg, mark).lost for leg in LEGS)

    def count(self, leg: Leg, mark: dict[Stream, int]) -> Count:
        """The count from the last `close` up to the mark."""
        with self._lock:
            totals: defaultdict[str, int] = defaultdict(int)
            lost: list[str] = []
            dark: list[str] = []
            late: list[str] = []
            for stream, high in mark.items():
                page = self._pages[stream]
                book = page.books.get(leg)
                if book is None:
                    continue
                totals["promised"] += book.promised.within(book.base, high)
                totals["duplicates"] += book.duplicates - book.duplicates_before
                late += [f"{stream} #{number}" for number in self._reordered(stream, leg, book.base, high)]
                for number in book.promised.without(book.arrived, book.base, high):
                    (dark if self._is_dark(leg, stream, number) else lost).append(f"{stream} #{number}")
        return Count(
            totals["promised"],
            len(lost),
            len(dark),
            totals["duplicates"],
            len(late),
            tuple(lost[:KEPT]),
            tuple(dark),
            tuple(late[:KEPT]),
        )

    def close(self, mark: dict[Stream, int]) -> None:
        """What is up to the mark is judged: the next count begins after it."""
        with self._lock:
            for stream, high in mark.items():
                for book in self._pages[stream].books.values():
                    book.base, book.duplicates_before = high, book.duplicates
            judged = max((self._pages[stream].sent[high - 1] for stream, high in mark.items() if high), default=0.0)
            self._windows = [window for window in self._windows if window.matters(judged)]
            self._silence.clear()

    def strays(self) -> tuple[str, ...]:
        """Messages that arrived where they were not meant to, or that nobody sent."""
        with self._lock:
            return tuple(self._strays[:KEPT])

    # -- inside

    def _page(self, stream: Stream) -> _Page:
        page = self._pages.get(stream)
        if page is None:
            page = self._pages[stream] = _Page()
        return page

    def _book(self, stream: Stream, leg: Leg) -> _Book:
        return self._page(stream).books.setdefault(leg, _Book())

    def _move(self, leg: Leg, stream: Stream, number: int, at: float) -> None:
        group = group_of(leg, stream)
        before = self._heard.get(group)
        self._heard[group] = at
        if before is not None:
            self._silence[group] = max(self._silence[group], at - before)
        if group not in self._progress and (group not in self._flowing or number > self._marks.get(stream, 0)):
            self._progress[group] = at - self._blown

    def _reordered(self, stream: Stream, leg: Leg, low: int, high: int) -> Iterator[int]:
        """First arrivals after one with a higher number. What was never promised has no place in the order; what is out
        of order in Kafka already was judged there."""
        books = self._pages[stream].books
        book, up = books[leg], books.get("up")
        for number in book.late.without(_NONE, low, high):
            if number not in book.promised or (leg == "down" and up is not None and number in up.late):
                continue
            place = book.places.get(number, "")
            if not any(window.keeps and window.broker == place for window in self._covering(stream, number)):
                yield number

    def _is_dark(self, leg: Leg, stream: Stream, number: int) -> bool:
        if leg == "up":
            low, high = self._wiped.get(stream, (0, 0))
            return low < number <= high
        return any(not window.keeps for window in self._covering(stream, number))

    def _covering(self, stream: Stream, number: int) -> Iterator[Window]:
        """The windows that the message may have fallen into."""
        sent = self._pages[stream].sent[number - 1]
        for window in self._windows:
            if window.device == stream.destination and window.covers(stream, number, sent):
                yield window


_NONE = Ranges()


def group_of(leg: Leg, stream: Stream) -> Group:
    """Which streams recover together."""
    if leg == "down":
        return ("down", stream.destination)
    return ("up", stream.via, BACK_END if stream.destination == BACK_END else "mqtt")
