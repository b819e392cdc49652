"""Brings parked records back, in order, when their device listens.

It has no thread: `streams` calls it when a device, a link, a partition or the time gives a reason to look, and with the
parked records that were read. What is read goes to the head of the device's stream; new records queue behind it.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from kalinka_jms.errors import RecordError
from kalinka_jms.registry import Directory
from kalinka_jms.registry.entry import Entry
from kalinka_jms.sub.backlog import Indexed, Loaded
from kalinka_jms.sub.dispatch import Dispatcher
from kalinka_jms.sub.items import Items
from kalinka_jms.sub.outcomes import Books
from kalinka_jms.sub.parked import parse_drop_key, parse_parked_key
from kalinka_jms.sub.share import Chunk, Item, Share, Stream

log = logging.getLogger("kalinka.sub")

CHUNK, CHUNK_BYTES = 200, 1024 * 1024
"""Parked records of one stream read at once, and their bytes: those of one STOMP transaction."""

LOADED, LOADED_BYTES = 5000, 32 * 1024 * 1024
"""Parked records in memory, and their bytes, from which on further devices wait for their turn."""

LOOKS = 1000
"""Devices looked at in one turn."""

RETRY_FIRST, RETRY_MOST = 1.0, 30.0
"""Seconds until a device that is said to listen, but was not reached, is tried again; doubled each time."""

Key = tuple[Share, str, str]
"""Share, device, name of the stream."""


class Reader(Protocol):
    """Where parked records are read; see `Backlog`."""

    def load(self, share: Share, offsets: Sequence[int]) -> None: ...

    def close(self, share: Share) -> None: ...


class Replays:
    """What is parked, and what of it is on its way back."""

    def __init__(self, reader: Reader, owners: Directory, dispatcher: Dispatcher, items: Items, books: Books) -> None:
        self._reader = reader
        self._owners = owners
        self._dispatcher = dispatcher
        self._items = items
        self._books = books
        self._looks: dict[Share, list[str]] = {}  # devices to look at
        self._queue: dict[Key, None] = {}  # streams that could start if there were room
        self._delays: dict[Key, float] = {}
        self._timers: dict[Key, float] = {}  # streams that wait for their time
        self._due: list[tuple[float, int, Key]] = []
        self._count = 0
        self._pins: Counter[str] = Counter()
        self.loaded = self.loaded_bytes = 0
        """Parked records in memory, or about to be."""

    @property
    def has_room(self) -> bool:
        return self.loaded < LOADED and self.loaded_bytes < LOADED_BYTES

    @property
    def busy(self) -> bool:
        """Whether there is something to `look` at."""
        return bool(self._looks)

    def index(self, indexed: Indexed) -> None:
        """Take in what is parked in a share; with the last of it look which devices listen."""
        share = indexed.share
        if not share.open:
            return
        take_in(indexed)
        if indexed.whole:
            share.indexed = True
            self._looks[share] = list(share.index.devices())

    def parked(self, share: Share, device: str) -> None:
        """Something of this device is parked. It is pinned before the look: a change may have come before that."""
        if not share.index.topics(device):
            return  # nothing any more
        if device not in share.pinned:
            share.pinned.add(device)
            self._pins[device] += 1
            self._owners.pin(device)
        for name in share.index.topics(device):
            self._start((share, device, name))

    def changed(self, share: Share, device: str) -> None:
        """The registry says something new about a device."""
        for name in share.index.topics(device):
            self._delays.pop((share, device, name), None)
            self._timers.pop((share, device, name), None)
            self._start((share, device, name))

    def everything(self, shares: Sequence[Share]) -> None:
        """Look at all that is parked: a link came up."""
        self._timers.clear()
        for share in shares:
            if share.indexed:
                self._looks[share] = list(share.index.devices())

    def look(self) -> None:
        """Do a part of the looking: a long backlog must not hold everything else up."""
        for _ in range(LOOKS):
            share = next(iter(self._looks), None)
            if share is None:
                return
            if self._looks[share]:
                self.parked(share, self._looks[share].pop())
            else:
                del self._looks[share]

    def later(self, stream: Stream, now: float) -> None:
        """The registry says that it listens, and yet it was not reached: try again after a while."""
        key = stream.share, stream.device, stream.name
        self._delays[key] = min(2 * self._delays.get(key, RETRY_FIRST / 2), RETRY_MOST)
        self._timers[key] = now + self._delays[key]
        self._count += 1
        heapq.heappush(self._due, (self._timers[key], self._count, key))

    def due(self, now: float) -> None:
        """Start what waited for its time, or for room."""
        while self._due and self._due[0][0] <= now:
            time, _, key = heapq.heappop(self._due)
            if self._timers.get(key) == time:
                del self._timers[key]
                self._start(key)
                self._forget_delay(key)
        self._fill()

    def arrived(self, loaded: Loaded, now: float) -> None:
        """A parked record was read, or is not there any more."""
        share = loaded.share
        key = share.wanted.pop(loaded.offset, None)
        if key is None or not share.open:
            return
        chunk = share.loading[key]
        chunk.found[loaded.offset] = loaded.message
        if len(chunk.found) == len(chunk.wanted):
            del share.loading[key]
            self._complete(share.stream(*key), chunk, now)

    def keep(self, stream: Stream, item: Item, offset: int, now: float) -> None:
        """A record of a stream that holds all that is parked before it was parked just now: it goes on from memory."""
        share, item.parked = stream.share, offset
        self._hold(share, 1, _bytes(item.message))
        share.index.load(stream.device, stream.name, offset)
        stream.push(item, now)

    def returned(self, share: Share, item: Item) -> None:
        """A parked record has its outcome, or went back to being only parked."""
        if item.parked is not None:
            self._hold(share, -1, -_bytes(item.message))

    def settled(self, share: Share, device: str, name: str) -> None:
        """The stream has nothing more in memory: go on with what is parked, or let the device go."""
        if not (share.index.count or self._pins or self._delays or self._timers or self._queue):
            return  # nothing is parked, nor waits for its turn or its time
        self._delays.pop((share, device, name), None)
        self._timers.pop((share, device, name), None)
        self._start((share, device, name))
        self._fill()
        self.emptied(share, device)

    def emptied(self, share: Share, device: str) -> None:
        """Let the device go where nothing is parked for it any more."""
        if not share.index.topics(device):
            self._unpin(share, device)

    def close(self, share: Share) -> None:
        """The share ended."""
        self._reader.close(share)
        self._hold(share, -share.replaying, -share.replaying_bytes)
        self._looks.pop(share, None)
        self._queue = {key: none for key, none in self._queue.items() if key[0] is not share}
        self._delays = {key: delay for key, delay in self._delays.items() if key[0] is not share}
        self._timers = {key: time for key, time in self._timers.items() if key[0] is not share}
        self._due = [entry for entry in self._due if entry[2][0] is not share]
        heapq.heapify(self._due)
        for device in tuple(share.pinned):
            self._unpin(share, device)

    def _hold(self, share: Share, count: int, size: int) -> None:
        share.replaying += count
        share.replaying_bytes += size
        self.loaded += count
        self.loaded_bytes += size

    def _unpin(self, share: Share, device: str) -> None:
        if device not in share.pinned:
            return
        share.pinned.remove(device)
        self._pins[device] -= 1
        if not self._pins[device]:
            del self._pins[device]
            self._owners.unpin(device)

    def _fill(self) -> None:
        """There may be room: start what waited for it."""
        while self._queue and self.has_room:
            key = next(iter(self._queue))
            del self._queue[key]
            self._start(key)

    def _forget_delay(self, key: Key) -> None:
        share, device, name = key
        if (device, name) not in share.parking and name not in share.index.topics(device):
            self._delays.pop(key, None)

    def _start(self, key: Key) -> None:
        share, device, name = key
        if key in self._timers or not self._ready(share, device, name):
            return
        if not self.has_room:
            self._queue[key] = None
            return
        chunk = Chunk({o: (id, size) for o, id, size in share.index.next(device, name, CHUNK, CHUNK_BYTES)})
        share.loading[device, name] = chunk
        share.wanted.update(dict.fromkeys(chunk.wanted, (device, name)))
        self._hold(share, len(chunk.wanted), sum(size for _, size in chunk.wanted.values()))
        self._reader.load(share, list(chunk.wanted))

    def _ready(self, share: Share, device: str, name: str) -> bool:
        """Whether the device listens, nothing of the stream is in memory, and something of it is parked."""
        if not share.open or share.closing or not share.indexed or (device, name) in share.loading:
            return False
        if (device, name) in share.streams or share.index.loaded(device, name):
            return False
        entry = self._owners.get(device)
        try:
            destination = self._items.destination(device, name)
        except RecordError:
            return True  # no route has it any more: it is dead
        return isinstance(entry, Entry) and self._dispatcher.reachable(entry, destination)

    def _complete(self, stream: Stream, chunk: Chunk, now: float) -> None:
        share, device, name = stream.share, stream.device, stream.name
        for offset, (id, size) in chunk.wanted.items():
            message = chunk.found[offset]
            if message is None:
                log.warning("a parked record is gone from Kafka", extra={"device": device, "kalinka.id": id})
                share.index.remove(device, name, id)
                self._hold(share, -1, -size)
            else:
                self._push(stream, message, id, now)
        share.index.load(device, name, max(chunk.wanted))
        self._dispatcher.send(stream, now)

    def _push(self, stream: Stream, message: Any, id: str, now: float) -> None:
        try:
            item = self._items.parked(message, stream.device, stream.name, id)
        except RecordError as error:  # the routes have changed since it was parked
            self._books.bury_parked(stream.share, message, str(error), (stream.device, stream.name, id))
            self._hold(stream.share, -1, -_bytes(message))
        else:
            if item.mark in stream.share.window:
                self._books.duplicate_parked(stream.share, item)
                self._hold(stream.share, -1, -_bytes(message))
            else:
                stream.push(item, now)


def _bytes(message: Any) -> int:
    return len(message.value() or b"")


def take_in(indexed: Indexed) -> None:
    """Put what was read into the share's index."""
    for record in indexed.records:
        _note(indexed.share, *record)


def _note(share: Share, offset: int, key: bytes | None, size: int | None, time: int = 0) -> None:
    if (dropped := parse_drop_key(key)) is not None:
        share.drops.pop(dropped, None)
        if size is not None:
            share.drops[dropped] = offset
        return
    try:
        device, name, id = parse_parked_key(key or b"")
    except RecordError as error:
        log.error("not a parked record", extra={"offset": offset, "reason": str(error)})
        return
    if size is None:
        share.index.remove(device, name, id, offset)
    else:
        share.index.add(device, name, id, offset, size, time)
