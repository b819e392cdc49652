"""The index of parked records of one partition of `{group}.parked`; the payloads stay in Kafka.

The topic is compacted: a parked record's key is device, Kafka topic and id, its tombstone says that it was replayed.
"""

from __future__ import annotations

from itertools import islice

from kalinka_jms.errors import RecordError

_SIZE_BITS = 32  # Kafka's record sizes are 32-bit
_SIZE_MASK = (1 << _SIZE_BITS) - 1
_TIME_BITS = 44  # milliseconds until the year 2527
_TIME_MASK = (1 << _TIME_BITS) - 1
_OFFSET = _SIZE_BITS + _TIME_BITS

RECORD_MEMORY, STREAM_MEMORY = 185, 510
"""Bytes that the index takes for a record, and for a stream that has any."""


def parked_key(device: str, topic: str, id: str) -> bytes:
    """The Kafka key of a parked record: `device/topic/id`, UTF-8.

    Unambiguous for any id, because neither a device id (routes refuse it) nor the name of a Kafka topic can hold a
    `/`. Raises ValueError when one does all the same, or is empty.
    """
    for part in (device, topic):
        if not part or "/" in part:
            raise ValueError(f"{part!r} cannot be part of the key of a parked record")
    return f"{device}/{topic}/{id}".encode()


def parse_parked_key(key: bytes) -> tuple[str, str, str]:
    """(device, topic, id) of a parked record's key. Raises RecordError when it is not one."""
    try:
        device, topic, id = key.decode().split("/", 2)
    except ValueError:  # UnicodeDecodeError is one too
        raise RecordError("not the key of a parked record") from None
    if not device or not topic:
        raise RecordError("not the key of a parked record")
    return device, topic, id


def drop_key(device: str) -> bytes:
    """The Kafka key of a request to drop what was parked for a device before it: the key of no parked record."""
    return f"/{device}/drop".encode()


def parse_drop_key(key: bytes | None) -> str | None:
    """The device of such a request; None for any other key."""
    if key is None or not key.startswith(b"/") or not key.endswith(b"/drop"):
        return None
    return key[1:-5].decode(errors="replace") or None


class _Backlog:
    """The parked records of one device and topic, oldest first; the first `loaded` of them were read for replay.

    id → offset, time and size packed in one int: a third of a tuple's memory, and nothing for the garbage collector to
    walk.
    The dict's own order is the order of the offsets.
    """

    __slots__ = ("entries", "loaded", "loaded_to", "removed")

    def __init__(self) -> None:
        self.entries: dict[str, int] = {}
        self.loaded = 0
        self.loaded_to = -1
        self.removed = 0

    def pop(self, id: str) -> int:
        """Remove `id` and return its packed offset, time and size. Raises KeyError."""
        packed = self.entries.pop(id)
        if packed >> _OFFSET <= self.loaded_to:
            self.loaded -= 1
        self.removed += 1
        if self.removed > len(self.entries):  # a dict keeps the holes at its front, and walks over them
            self.entries = dict(self.entries)
            self.removed = 0
        return packed


class ParkedIndex:
    """Which device and topic has which offsets in one partition of the parked topic.

    Fed in the order of the partition, by reading it and then by its one writer's own confirmed writes. A parked record
    with an id of 50 characters takes 187 bytes with 1,000 for each device, 198 with 100, 225 with ten and 707 where it
    is its device's only one (growth of the resident set over 1,000,000 adds, CPython 3.11; the million takes 2 seconds,
    5 at worst, on an idle core: `python -m tests.bench.index`).
    """

    __slots__ = ("_backlogs", "_bytes", "_count", "_devices", "_position")

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, _Backlog]] = {}  # device → topic → backlog
        self._backlogs = 0
        self._count = 0
        self._bytes = 0
        self._position = 0

    def add(self, device: str, topic: str, id: str, offset: int, size: int, time: int = 0) -> None:
        """A record is parked at `offset`, with `size` bytes; its own `time` in ms since the epoch, 0 where it has none.

        The same id parked again moves to its new offset, not loaded. Raises ValueError when `offset` is before
        `position`: the index would not know the order any more.
        """
        self._advance(offset)
        backlog = self._backlog(device, topic)
        if backlog is None:
            backlog = self._devices.setdefault(device, {})[topic] = _Backlog()
            self._backlogs += 1
        elif id in backlog.entries:
            self._forget(id, backlog)
        backlog.entries[id] = offset << _OFFSET | (max(time, 0) & _TIME_MASK) << _SIZE_BITS | size
        self._count += 1
        self._bytes += size

    def remove(self, device: str, topic: str, id: str, offset: int | None = None) -> bool:
        """A tombstone: the record has its outcome. `offset` is the tombstone's, where known, and moves `position`.

        Returns whether the record was there; a tombstone may outlive its record. Raises ValueError like `add`.
        """
        if offset is not None:
            self._advance(offset)
        backlog = self._backlog(device, topic)
        if backlog is None or id not in backlog.entries:
            return False
        self._forget(id, backlog)
        if not backlog.entries:
            topics = self._devices[device]
            del topics[topic]
            self._backlogs -= 1
            if not topics:
                del self._devices[device]
        return True

    def has(self, device: str, topic: str, id: str) -> bool:
        """Whether that record is parked."""
        backlog = self._backlog(device, topic)
        return backlog is not None and id in backlog.entries

    def backlog(self, device: str, topic: str) -> list[int]:
        """The offsets of the device's parked records, in order, loaded or not."""
        backlog = self._backlog(device, topic)
        return [] if backlog is None else [packed >> _OFFSET for packed in backlog.entries.values()]

    def first(self, device: str, topic: str, skip: int = 0) -> tuple[int, str, int] | None:
        """(offset, id, time) of the first record that is not loaded, passing over `skip` of them."""
        backlog = self._backlog(device, topic)
        if backlog is None:
            return None
        start = backlog.loaded + skip
        for id, packed in islice(backlog.entries.items(), start, start + 1):
            return packed >> _OFFSET, id, packed >> _SIZE_BITS & _TIME_MASK
        return None

    def oldest(self, device: str, topic: str) -> int | None:
        """The offset of the first record, loaded or not."""
        backlog = self._backlog(device, topic)
        return None if backlog is None else next(iter(backlog.entries.values())) >> _OFFSET

    def waiting(self, device: str, topic: str) -> int:
        """How many of the device's records are not loaded."""
        backlog = self._backlog(device, topic)
        return 0 if backlog is None else len(backlog.entries) - backlog.loaded

    def next(self, device: str, topic: str, limit: int, max_bytes: int | None = None) -> list[tuple[int, str, int]]:
        """(offset, id, bytes) of the first records that are not loaded, in order.

        At most `limit`, and together at most `max_bytes` unless the first alone has more.
        """
        backlog = self._backlog(device, topic)
        found: list[tuple[int, str, int]] = []
        room = max_bytes
        for id, packed in islice(backlog.entries.items(), backlog.loaded, backlog.loaded + limit) if backlog else ():
            size = packed & _SIZE_MASK
            if room is not None:
                room -= size
                if room < 0 and found:
                    break
            found.append((packed >> _OFFSET, id, size))
        return found

    def load(self, device: str, topic: str, offset: int) -> None:
        """Mark the device's records up to and including `offset` as loaded: they are in its lane now."""
        backlog = self._backlog(device, topic)
        if backlog is None:
            return
        for packed in islice(backlog.entries.values(), backlog.loaded, None):
            if packed >> _OFFSET > offset:
                break
            backlog.loaded += 1
            backlog.loaded_to = packed >> _OFFSET

    def unload(self, device: str, topic: str) -> None:
        """Mark none of the device's records as loaded: they left its lane without an outcome, and stay parked."""
        backlog = self._backlog(device, topic)
        if backlog is not None:
            backlog.loaded, backlog.loaded_to = 0, -1

    def loaded(self, device: str, topic: str) -> bool:
        """True when no parked record is left to load: a new record may queue directly behind in the lane."""
        backlog = self._backlog(device, topic)
        return backlog is None or backlog.loaded == len(backlog.entries)

    def devices(self) -> set[str]:
        """The devices that have parked records."""
        return set(self._devices)

    @property
    def device_count(self) -> int:
        """How many devices have parked records."""
        return len(self._devices)

    def topics(self, device: str) -> list[str]:
        """The Kafka topics of which that device has parked records."""
        return list(self._devices.get(device, ()))

    @property
    def count(self) -> int:
        """How many records are parked."""
        return self._count

    @property
    def bytes(self) -> int:
        """The sum of the sizes of the parked records, in bytes."""
        return self._bytes

    @property
    def memory(self) -> int:
        """Bytes of memory it takes, within a tenth for ids of 50 characters (measured; see above)."""
        return self._count * RECORD_MEMORY + self._backlogs * STREAM_MEMORY

    @property
    def position(self) -> int:
        """The offset to read on from: one past the newest that was added or removed."""
        return self._position

    def _backlog(self, device: str, topic: str) -> _Backlog | None:
        topics = self._devices.get(device)
        return None if topics is None else topics.get(topic)

    def _advance(self, offset: int) -> None:
        if offset < self._position:
            raise ValueError(f"offset {offset} comes after {self._position - 1} was seen: read on from the position")
        self._position = offset + 1

    def _forget(self, id: str, backlog: _Backlog) -> None:
        self._bytes -= backlog.pop(id) & _SIZE_MASK
        self._count -= 1
