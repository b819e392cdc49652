"""What an instance of `kalinka sub` holds of one partition number of one group.

The same partition of all the group's downlink topics and of its parked topic comes to the same instance: that is its
share. A share ends when the partition is taken away; nothing of it is used after that.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from itertools import accumulate
from math import inf
from typing import Any

from kalinka_jms.records import Command
from kalinka_jms.sub.lane import Lane
from kalinka_jms.sub.parked import ParkedIndex
from kalinka_jms.watermark import Watermark

REMEMBERED = 10_000
"""Delivered records that a share remembers, to recognise a duplicate."""

Name = tuple[str, str]
"""A device, and the name of one of its streams."""

Mark = tuple[str, str, str, int, int]
"""What makes two records the same: device, stream, id, hops and attempt (one that was handed over, or came back from
the dead-letter topic, is not the one it was)."""


class Outcome(StrEnum):
    """What became of a record; every record gets exactly one."""

    DELIVERED = "delivered"
    PARKED = "parked"
    EXPIRED = "expired"
    DEAD = "dead"
    MOVED = "moved"
    DUPLICATE = "duplicate"


@dataclass(slots=True, eq=False)
class Way:
    """Where the records of one stream go."""

    stream: Name
    destination: str
    place: int
    """That of the destination's pattern among `presence_topics`."""
    by_device: bool
    """Whether a record is delivered only when the device's own evidence says so, and not when the broker has it."""
    ttl: float | None
    """Seconds that a record is of use."""
    prefixes: tuple[bytes, bytes, bytes]
    """What a SEND begins with, by QoS."""
    owners: tuple[object, tuple[str, ...]] = (None, ())
    """The registry's entry as it was when it was asked last, and the brokers that it names for the destination."""


@dataclass(slots=True, eq=False)
class Item:
    """One record on its way to a device. `message` is Kafka's own, for passing it on byte for byte."""

    way: Way
    command: Command
    message: Any
    mark: Mark
    prefix: bytes
    """That of its SEND."""
    payload: bytes
    size: int
    parked: int | None = None
    """The offset where it is parked, for a record that is replayed."""
    expires: float = inf
    """When its time runs out (seconds since the epoch)."""


@dataclass(slots=True, eq=False)
class Write:
    """One record for Kafka, and whose outcome it is."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    partition: int = -1
    outcome: Outcome | None = None
    item: Item | None = None
    message: Any = None
    """The record that gets the outcome when this is committed."""
    replay: bool = False
    """Whether that record came from the parked topic, so that no offset of the group belongs to it."""
    stream: Name | None = None
    """The stream that may go on from memory only when this is committed."""
    stub: bool = False
    """A dead letter without its value, because not even the dead-letter topic takes that."""
    timestamp: int = 0
    """That of the record which it keeps (milliseconds); 0: when it is written."""
    offset: int = -1
    """Where Kafka put it; known once the transaction is committed."""
    refused: str = ""
    """Why Kafka can never take it."""


class State(Enum):
    """Where the head of a stream stands."""

    IDLE = "idle"
    WAITING = "waiting"  # for the registry's answer, or for the link to its owner
    READY = "ready"  # for a place in a transaction
    FLYING = "flying"


@dataclass(slots=True, eq=False)
class Stream:
    """The records for one device from one Kafka topic and one source, in order."""

    share: Share
    device: str
    name: str
    lane: Lane[Item] = field(default_factory=Lane)
    behind: deque[Item] = field(default_factory=deque)
    """New records that wait until what was parked before them is confirmed as parked."""
    tried: set[str] = field(default_factory=set)
    """Brokers that did not reach the device since its last delivery or change."""
    state: State = State.IDLE
    port: str = ""
    """The broker it is ready for."""
    expires: float = inf
    """No time of what it holds runs out before (seconds since the epoch)."""

    def push(self, item: Item, now: float) -> None:
        """Append one to the lane."""
        self.expires = min(self.expires, item.expires)
        self.lane.push(item, now)

    def queue(self, item: Item) -> None:
        """Append one behind."""
        self.expires = min(self.expires, item.expires)
        self.behind.append(item)


@dataclass(slots=True, eq=False)
class Chunk:
    """Parked records of one stream that are being read."""

    wanted: dict[int, tuple[str, int]]
    """Offset → id and bytes, in order."""
    found: dict[int, Any] = field(default_factory=dict)
    """Offset → message; None for one that is not there any more."""


class Window:
    """The records of one partition that were delivered last, `REMEMBERED` or more, less than twice as many: the
    same record once more is a duplicate.

    It stays with the process when the partition goes and comes back (see `Partitions`), and ends with it. Between
    processes nothing is passed on but the committed offsets: what was delivered and not committed, at most
    `window_records` records of an instance that died, is delivered twice.
    """

    def __init__(self) -> None:
        self._newer: set[Mark] = set()
        self._older: set[Mark] = set()

    def add(self, *marks: Mark) -> None:
        self._newer.update(marks)
        if len(self._newer) >= REMEMBERED:
            self._newer, self._older = set(), self._newer

    def __contains__(self, mark: object) -> bool:
        return mark in self._newer or mark in self._older

    def __len__(self) -> int:
        return len(self._newer | self._older)


class Share:
    """One partition number of one group: streams, offsets, parked records."""

    def __init__(
        self, group: str, partition: int, index: ParkedIndex | None = None, window: Window | None = None
    ) -> None:
        """`index`, `window`: what is known of an earlier time that this instance had the partition."""
        self.group = group
        self.partition = partition
        self.open = True
        """False once the partition was taken away."""
        self.closing = False
        """True when the partition is about to be taken away: nothing new is sent."""
        self.indexed = False
        """True once the parked records are known; no record is taken before."""
        self.index = ParkedIndex() if index is None else index
        self.window = Window() if window is None else window
        self.streams: dict[Name, Stream] = {}
        self.writes: deque[Write] = deque()
        """What is to be written to Kafka, and no batch has yet."""
        self.writing = 0
        """What a batch has taken and Kafka is not known to have."""
        self.parking: Counter[Name] = Counter()
        """Records per stream that are on their way into the parked topic."""
        self.drops: dict[str, int] = {}
        """Devices of which everything parked before that offset is to go: what of it is on its way is looked at when it
        comes back."""
        self.loading: dict[Name, Chunk] = {}
        """Streams whose parked records are being read."""
        self.wanted: dict[int, Name] = {}
        """Offsets of parked records that are being read."""
        self.pinned: set[str] = set()
        """Devices of which something is parked, whose changes are told."""
        self.replaying = 0
        """Parked records that are being read or are in streams."""
        self.replaying_bytes = 0
        self.active: set[Mark] = set()
        """The records that are on their way, also into the parked topic."""
        self.pending = 0
        """Records taken that have no outcome yet."""
        self.held: defaultdict[str, int] = defaultdict(int)
        """The same, by topic."""
        self.pending_bytes = 0
        self._watermarks: dict[str, Watermark] = {}
        self._committed: dict[str, int] = {}

    @property
    def key(self) -> tuple[str, int]:
        return self.group, self.partition

    def begin(self, topic: str, *offsets: int) -> Sequence[int]:
        """Records were taken from Kafka: the places of those that were not taken before.

        Offsets grow, unless a topic was made anew or cut off and Kafka begins again within what it hands over."""
        watermark = self._watermarks.get(topic)
        if watermark is None:
            watermark = self._watermarks[topic] = Watermark(offsets[0])
        try:
            watermark.extend(offsets)
            return range(len(offsets))
        except ValueError:
            before = accumulate(offsets, max, initial=watermark.newest)
            places = [place for place, (offset, most) in enumerate(zip(offsets, before, strict=False)) if offset > most]
            watermark.extend([offsets[place] for place in places])
            return places

    def finish(self, topic: str, *offsets: int) -> None:
        """Their outcome is final, or final together with the offsets that are committed next."""
        self._watermarks[topic].finish(*offsets)

    def positions(self) -> Iterator[tuple[str, int]]:
        """Topic and offset to commit, of every topic of which something was taken."""
        for topic, watermark in self._watermarks.items():
            yield topic, watermark.position

    def moved(self) -> Iterator[tuple[str, int]]:
        """Those of `positions` that are not committed."""
        return (place for place in self.positions() if place[1] != self._committed.get(place[0]))

    def committed(self, topic: str, offset: int) -> None:
        self._committed[topic] = offset

    def stream(self, device: str, name: str) -> Stream:
        """The stream, made when it is not there."""
        key = device, name
        found = self.streams.get(key)
        if found is None:
            found = self.streams[key] = Stream(self, device, name)
        return found

    def forget(self, stream: Stream) -> None:
        """Drop a stream that holds nothing any more; another one that took its place since then stays."""
        key = stream.device, stream.name
        if self.streams.get(key) is stream:
            del self.streams[key]

    def blocked(self, device: str, name: str) -> bool:
        """Whether a new record must go behind parked ones."""
        if not self.parking and not self.index.count:
            return False
        return (device, name) in self.parking or not self.index.loaded(device, name)

    def known(self, item: Item) -> bool:
        """Whether the same record was delivered, is parked, or is on its way."""
        mark = item.mark
        return mark in self.active or mark in self.window or (self.index.count > 0 and self.index.has(*mark[:3]))

    def leave_index(self) -> ParkedIndex | None:
        """The index for whoever has the partition next in this process; None where Kafka may know more, or other.

        What was decided and is not in Kafka would be forgotten: such an index must be read again.
        """
        if not self.indexed or self.writes or self.writing or self.parking or self.drops:
            return None
        for device, name in (*self.streams, *self.loading):
            self.index.unload(device, name)
        return self.index
