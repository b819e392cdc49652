"""What an instance of `kalinka sub` holds of one partition number of one group.

The same partition of all the group's downlink topics and of its parked topic comes to the same instance: that is its
share. A share ends when the partition is taken away; nothing of it is used after that.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from kalinka_jms.lane import Lane
from kalinka_jms.parked import ParkedIndex
from kalinka_jms.records import Command
from kalinka_jms.sends import Send
from kalinka_jms.watermark import Watermark

REMEMBERED = 10_000
"""Ids of delivered records that a share remembers, to recognise a duplicate."""


class Outcome(StrEnum):
    """What became of a record; every record gets exactly one."""

    DELIVERED = "delivered"
    PARKED = "parked"
    EXPIRED = "expired"
    DEAD = "dead"
    MOVED = "moved"
    DUPLICATE = "duplicate"


@dataclass(slots=True, eq=False)
class Item:
    """One record on its way to a device. `message` is Kafka's own, for passing it on byte for byte."""

    command: Command
    message: Any
    name: str
    """The stream's, within device and share."""
    destination: str
    send: Send
    route: int
    size: int
    parked: int | None = None
    """The offset where it is parked, for a record that is replayed."""


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
    decided: bool = False
    offset: int = -1
    """Where Kafka put it; known once the transaction is committed."""


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

    @property
    def quiet(self) -> bool:
        """True when it holds nothing any more."""
        return self.lane.idle and not self.behind


class Share:
    """One partition number of one group: streams, offsets, parked records."""

    def __init__(self, group: str, partition: int) -> None:
        self.group = group
        self.partition = partition
        self.open = True
        """False once the partition was taken away."""
        self.closing = False
        """True when the partition is about to be taken away: nothing new is sent."""
        self.indexed = False
        """True once the parked records are known; no record is taken before."""
        self.index = ParkedIndex()
        self.streams: dict[tuple[str, str], Stream] = {}
        self.writes: deque[Write] = deque()
        self.parking: Counter[tuple[str, str]] = Counter()
        """Records per stream that are on their way into the parked topic."""
        self.loading: dict[tuple[str, str], dict[int, Any]] = {}
        """Streams whose parked records are being read: offset → message, None while it has not come."""
        self.wanted: dict[int, tuple[str, str]] = {}
        """Offsets of parked records that are being read → device and stream."""
        self.replaying = 0
        """Parked records that are being read or are in streams."""
        self.active: set[tuple[str, int]] = set()
        """Identities of the records that are on their way."""
        self.pending = 0
        """Records taken that have no outcome yet."""
        self.pending_bytes = 0
        self._watermarks: dict[str, Watermark] = {}
        self._newest: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self._delivered: OrderedDict[tuple[str, int], None] = OrderedDict()

    @property
    def key(self) -> tuple[str, int]:
        return self.group, self.partition

    def begin(self, topic: str, offset: int) -> bool:
        """A record was taken from Kafka; False if it, or a later one, had been taken before."""
        if offset <= self._newest.get(topic, -1):
            return False
        self._newest[topic] = offset
        self._watermarks.setdefault(topic, Watermark()).add(offset)
        return True

    def finish(self, topic: str, offset: int) -> None:
        """Its outcome is final, or final together with the offsets that are committed next."""
        self._watermarks[topic].finish(offset)

    def positions(self) -> Iterator[tuple[str, int]]:
        """Topic and offset to commit, where that has moved since `committed`."""
        for topic, watermark in self._watermarks.items():
            position = watermark.position
            if position is not None and position != self._committed.get(topic):
                yield topic, position

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
        """Drop a quiet stream."""
        self.streams.pop((stream.device, stream.name), None)

    def blocked(self, device: str, name: str) -> bool:
        """Whether a new record must go behind parked ones."""
        return self.parking[device, name] > 0 or not self.index.loaded(device, name)

    def remember(self, command: Command) -> None:
        """This record was delivered."""
        self._delivered[command.id, command.hops] = None
        if len(self._delivered) > REMEMBERED:
            self._delivered.popitem(last=False)

    def delivered(self, command: Command) -> bool:
        """Whether it was delivered before. A record that was handed over has more hops and is not the same."""
        return (command.id, command.hops) in self._delivered
