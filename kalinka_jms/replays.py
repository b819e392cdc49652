"""Brings parked records back, in order, when their device listens.

It has no thread: `sub` calls it when a device, a link, a partition or the time gives a reason to look, and with the
parked records that were read. What is read goes to the head of the device's stream; new records queue behind it.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from kalinka_jms.backlog import Backlog, Loaded
from kalinka_jms.dispatch import Dispatcher
from kalinka_jms.entry import Entry
from kalinka_jms.errors import RecordError
from kalinka_jms.parked import parse_parked_key
from kalinka_jms.registry import Directory
from kalinka_jms.share import Item, Share, Stream

log = logging.getLogger("kalinka.sub")

CHUNK = 200
"""Parked records of one stream read at once: those of one STOMP transaction."""

LOADED = 5000
"""Parked records in memory at once, at most; further devices wait for their turn."""

RETRY_FIRST, RETRY_MOST = 1.0, 30.0
"""Seconds until a device that is said to listen, but was not reached, is tried again; doubled each time."""

Key = tuple[Share, str, str]
"""Share, device, name of the stream."""


class Replays:
    """What is parked, and what of it is on its way back."""

    def __init__(
        self,
        backlog: Backlog,
        owners: Directory,
        dispatcher: Dispatcher,
        destination: Callable[[str, str], str],
        item: Callable[[Any, str], Item],
        bury: Callable[[Share, Any, str], None],
    ) -> None:
        """`destination`: device and name of a stream → JMS destination; `item` makes a record of a parked message."""
        self._backlog = backlog
        self._owners = owners
        self._dispatcher = dispatcher
        self._destination = destination
        self._item = item
        self._bury = bury
        self._queue: deque[Key] = deque()
        self._delays: dict[Key, float] = {}
        self._due: list[tuple[float, int, Key]] = []
        self._count = 0
        self._pins: dict[str, set[Share]] = {}
        self.loaded = 0
        """Parked records in memory."""

    def index(self, share: Share, messages: Sequence[Any], *, whole: bool) -> None:
        """Take in what is parked in a share; with the last of it look which devices listen."""
        for message in messages:
            self._note(share, message)
        if whole:
            share.indexed = True
            for device in share.index.devices():
                self.parked(share, device)

    def parked(self, share: Share, device: str) -> None:
        """Something more of this device is parked; a change may have come before that was known."""
        self._pins.setdefault(device, set()).add(share)
        self._owners.pin(device)
        self.wake(share, device)

    def changed(self, share: Share, device: str) -> None:
        """The registry says something new about a device."""
        for name in share.index.topics(device):
            self._delays.pop((share, device, name), None)
            self._start((share, device, name))

    def wake(self, share: Share, device: str) -> None:
        """Look whether what is parked for the device can go out now."""
        for name in share.index.topics(device):
            self._start((share, device, name))

    def everything(self, shares: Sequence[Share]) -> None:
        """Look at all that is parked: a link came up."""
        for share in shares:
            for device in share.index.devices():
                self.wake(share, device)

    def later(self, stream: Stream, now: float) -> None:
        """The registry says that it listens, and yet it was not reached: try again after a while."""
        key = stream.share, stream.device, stream.name
        delay = self._delays.get(key, RETRY_FIRST / 2) * 2
        self._delays[key] = min(delay, RETRY_MOST)
        self._count += 1
        heapq.heappush(self._due, (now + self._delays[key], self._count, key))

    def due(self, now: float) -> None:
        """Start what waited for its time."""
        while self._due and self._due[0][0] <= now:
            _, _, key = heapq.heappop(self._due)
            if key in self._delays:
                self._start(key, retry=True)

    def arrived(self, loaded: Loaded, now: float) -> None:
        """A parked record was read, or is not there any more."""
        share = loaded.share
        key = share.wanted.pop(loaded.offset, None)
        if key is None or not share.open:
            return
        batch = share.loading[key]
        batch[loaded.offset] = loaded.message
        if not any(offset in share.wanted for offset in batch):
            self._complete(share, key, share.loading.pop(key), now)

    def kept(self, share: Share) -> None:
        """A record that was parked just now goes on from memory."""
        share.replaying += 1
        self.loaded += 1

    def returned(self, share: Share, item: Item) -> None:
        """A parked record has its outcome, or went back to being only parked."""
        if item.parked is not None:
            self._released(share)

    def _released(self, share: Share) -> None:
        share.replaying -= 1
        self.loaded -= 1

    def settled(self, share: Share, device: str, name: str) -> None:
        """The stream has nothing more in memory: go on with what is parked, or let the device go."""
        self._delays.pop((share, device, name), None)
        self._start((share, device, name))
        while self._queue and self.loaded < LOADED:
            self._start(self._queue.popleft())
        if not share.index.topics(device):
            self._unpin(share, device)

    def close(self, share: Share) -> None:
        """The share ended."""
        self._backlog.close(share)
        self.loaded -= share.replaying
        self._queue = deque(key for key in self._queue if key[0] is not share)
        self._delays = {key: delay for key, delay in self._delays.items() if key[0] is not share}
        for device in [device for device, shares in self._pins.items() if share in shares]:
            self._unpin(share, device)

    def _unpin(self, share: Share, device: str) -> None:
        shares = self._pins.get(device, set())
        shares.discard(share)
        if not shares:
            self._pins.pop(device, None)
            self._owners.unpin(device)

    def _note(self, share: Share, message: Any) -> None:
        try:
            device, name, id = parse_parked_key(message.key() or b"")
        except RecordError as error:
            log.error("not a parked record", extra={"offset": message.offset(), "reason": str(error)})
            return
        if message.value() is None:
            share.index.remove(device, name, id, message.offset())
        else:
            share.index.add(device, name, id, message.offset(), len(message.value()))

    def _start(self, key: Key, *, retry: bool = False) -> None:
        share, device, name = key
        if not self._ready(share, device, name) or (key in self._delays and not retry):
            return
        if self.loaded >= LOADED:
            self._queue.append(key)
            return
        wanted = share.index.next(device, name, CHUNK)
        share.loading[device, name] = dict.fromkeys((offset for offset, _ in wanted), None)
        share.wanted.update(dict.fromkeys((offset for offset, _ in wanted), (device, name)))
        share.replaying += len(wanted)
        self.loaded += len(wanted)
        self._backlog.load(share, [offset for offset, _ in wanted])

    def _ready(self, share: Share, device: str, name: str) -> bool:
        """Whether the device listens, nothing of the stream is in memory, and something of it is parked."""
        if not share.open or share.closing or not share.indexed or (device, name) in share.loading:
            return False
        if (device, name) in share.streams or share.index.loaded(device, name):
            return False
        entry = self._owners.get(device)
        return isinstance(entry, Entry) and self._dispatcher.reachable(entry, self._destination(device, name))

    def _complete(self, share: Share, key: tuple[str, str], batch: dict[int, Any], now: float) -> None:
        device, name = key
        stream = share.stream(device, name)
        for offset, id in share.index.next(device, name, len(batch)):
            if offset not in batch:
                break
            message = batch[offset]
            if message is None:
                share.index.remove(device, name, id)
                self._released(share)
            else:
                self._push(stream, message, now)
        share.index.load(device, name, max(batch))
        self._dispatcher.send(stream, now)

    def _push(self, stream: Stream, message: Any, now: float) -> None:
        try:
            item = self._item(message, stream.name)
        except RecordError as error:  # the routes have changed since it was parked
            self._bury(stream.share, message, str(error))
            self._released(stream.share)
        else:
            stream.lane.push(item, now)
