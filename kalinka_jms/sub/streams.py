"""Where every record stands: in its stream, behind what is parked before it, on its way into or out of parking.

It joins the parts that decide (`dispatch`, `outcomes`, `replays`) and has no thread: `sub` calls it with records,
events and the time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from kalinka_jms.config.settings import Settings
from kalinka_jms.errors import RecordError
from kalinka_jms.registry import Directory
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.backlog import Indexed, Loaded
from kalinka_jms.sub.commits import Batch
from kalinka_jms.sub.dispatch import Dispatcher
from kalinka_jms.sub.expiry import Expiry
from kalinka_jms.sub.items import Items
from kalinka_jms.sub.outcomes import Books
from kalinka_jms.sub.outlet import LinkDown, LinkUp, Outlet, Proofs
from kalinka_jms.sub.replays import Reader, Replays
from kalinka_jms.sub.sends import send_prefix
from kalinka_jms.sub.share import Item, Outcome, Share, State, Stream, Write

log = logging.getLogger("kalinka.sub")


class Streams:
    """The streams of all shares of an instance."""

    def __init__(
        self,
        settings: Settings,
        downlinks: Downlinks,
        outlets: Mapping[str, Outlet],
        owners: Directory,
        reader: Reader,
        now: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`now` is of the monotonic clock, like all times here; `wall` tells that of the records' timestamps."""
        self._settings = settings.sub
        self._crowded = False
        self._items = Items(downlinks, settings.sub)
        self.books = Books(settings.dead)
        canaries = [send_prefix(canary, 0) for canary in downlinks.canaries]
        groups = {broker.name: broker.group for broker in settings.brokers}
        self.dispatcher = Dispatcher(settings.sub, outlets, groups, canaries, self._patience, owners, self, now)
        self.replays = Replays(reader, owners, self.dispatcher, self._items, self.books)
        self.expiry = Expiry(self._items, self.books, self.replays, wall)

    # --- what comes

    def take(self, share: Share, messages: Sequence[Any], now: float) -> None:
        """Records of one Kafka topic, in order; nothing happens to those that were taken before."""
        fresh = self._items.fresh
        for message in self.books.take(share, messages):
            try:
                item = fresh(message)
            except RecordError as error:
                self.books.bury(share, message, str(error))
            else:
                self._place(share, item, now)

    def event(self, event: LinkUp | LinkDown | Proofs, shares: Sequence[Share], now: float) -> None:
        """Something happened on a link."""
        self.dispatcher.event(event, now)
        if isinstance(event, LinkUp):
            self.replays.everything(shares)

    def owner_changed(self, device: str, shares: Sequence[Share], now: float) -> None:
        """The registry says something new about a device."""
        self.dispatcher.owner_changed(device, now)
        for share in shares:
            self.replays.changed(share, device)

    def read(self, read: Indexed | Loaded, now: float) -> None:
        """Something came from a parked topic."""
        if isinstance(read, Indexed):
            self.replays.index(read)
        else:
            self.replays.arrived(read, now)

    def dropped(self, share: Share, device: str, offset: int) -> None:
        """Somebody asks to drop what was parked for a device before that offset."""
        if share.open:
            self.expiry.drop(share, device, offset)

    def done(self, batch: Batch, now: float) -> None:
        """A batch came back from Kafka."""
        if not batch.committed:
            self.books.undone(batch)
            return
        self.books.committed(batch)
        for share, write in batch.writes:
            if share.open and write.stream is not None:
                self._unblock(share, *write.stream, write, now)

    def tick(self, shares: Sequence[Share], now: float) -> None:
        """Look for what has waited too long."""
        self.dispatcher.expire(now)
        self.expiry.tick(shares, now)
        self.replays.due(now)

    def close(self, share: Share) -> None:
        """The partition was taken away."""
        share.open = False
        self.dispatcher.close(share)
        self.replays.close(share)
        self.books.give_back(share)
        share.streams.clear()  # they refer to it: gc would find them, and all their records, late
        share.writes.clear()

    def crowded(self, shares: Sequence[Share]) -> bool:
        """Whether the index of what is parked is full: a record more might not be found again."""
        memory, most = sum(share.index.memory for share in shares), self._settings.index_bytes
        if memory >= most and not self._crowded:
            log.error(
                "the index of parked records is full: nothing is taken until some are replayed, expired or dropped",
                extra={"index_bytes": most, "parked": sum(share.index.count for share in shares)},
            )
        self._crowded = memory >= most
        return self._crowded

    # --- what the dispatcher decides

    def delivered(self, share: Share, items: Sequence[Item]) -> None:
        fresh = [item for item in items if item.parked is None]
        self.books.delivered(share, fresh)
        if len(fresh) < len(items):
            for item in items:
                if item.parked is not None:
                    self.replays.returned(share, item)
                    self.books.delivered_parked(share, item)

    def freshen(self, stream: Stream, now: float) -> None:
        self.expiry.freshen(stream, now)
        if stream.lane.head is None:
            self.drained(stream)

    def park(self, stream: Stream, now: float, *, retry: bool) -> None:
        self.expiry.freshen(stream, now)
        items = [*stream.lane.drain(), *stream.behind]
        self._end(stream, items)
        stream.share.index.unload(stream.device, stream.name)
        self.books.park(stream.share, [item for item in items if item.parked is None])
        if retry:
            self.replays.later(stream, now)
        self.replays.emptied(stream.share, stream.device)

    def move(self, stream: Stream, group: str, now: float) -> None:
        self.expiry.freshen(stream, now)
        head = stream.lane.head
        if head is None or head.command.hops >= self._settings.max_hops:
            self.park(stream, now, retry=True)
            return
        items, behind = stream.lane.drain(), [*stream.behind]
        self._end(stream, items)
        self.books.move(stream.share, items, self._items.route(stream.name), group)
        self.books.park(stream.share, behind)  # as what is parked before them: all that goes the same way, in order
        self.replays.settled(stream.share, stream.device, stream.name)

    def reject(self, stream: Stream, item: Item, reason: str) -> None:
        self.replays.returned(stream.share, item)
        self.books.reject(stream.share, item, reason)

    def drained(self, stream: Stream) -> None:
        if not stream.behind:
            stream.share.forget(stream)
            self.replays.settled(stream.share, stream.device, stream.name)

    # --- inside

    def _patience(self, stream: Stream) -> float:
        return self._items.route(stream.name).ack_timeout or self._settings.ack_timeout

    def _place(self, share: Share, item: Item, now: float) -> None:
        """Put a new record where it stands in its stream's order: sent, behind what comes back, or parked."""
        if share.known(item):
            self.books.duplicate(share, item)
            return
        if item.expires < inf and self.expiry.over(item):
            self.books.expire(share, item)
            return
        name = item.way.stream
        share.active.add(item.mark)
        stream = share.streams.get(name)
        if not share.blocked(*name):
            stream = stream or share.stream(*name)
            stream.push(item, now)
            if stream.state is State.IDLE or stream.state is State.WAITING:
                self.dispatcher.send(stream, now)
        elif stream is not None and share.index.loaded(*name):
            stream.queue(item)
        else:
            self.books.park(share, [item])

    def _end(self, stream: Stream, items: Sequence[Item]) -> None:
        """The stream holds nothing any more; these were in it."""
        for item in items:
            self.replays.returned(stream.share, item)
        stream.behind.clear()
        stream.share.forget(stream)

    def _unblock(self, share: Share, device: str, name: str, write: Write, now: float) -> None:
        """What was to be parked is, or is dead. Where its stream is going on by now it goes on from memory."""
        key = device, name
        stream = share.streams.get(key)
        if write.outcome is Outcome.PARKED and write.item is not None:
            self._parked(share, stream, write.item, write.offset, now)
        share.parking[key] -= 1
        if not share.parking[key]:
            del share.parking[key]  # nothing before them is on its way any more: they move up
            while stream is not None and stream.behind:
                stream.push(stream.behind.popleft(), now)
        if stream is not None:
            self.dispatcher.send(stream, now)

    def _parked(self, share: Share, stream: Stream | None, item: Item, offset: int, now: float) -> None:
        device, name, id = item.mark[:3]
        next_in_line = stream is not None and share.index.loaded(device, name)
        share.index.add(device, name, id, offset, len(item.message.value()), item.command.timestamp)
        if stream is not None and next_in_line:
            if self.replays.has_room:
                self.replays.keep(stream, item, offset, now)
            else:
                self.books.park(share, stream.behind)  # behind this one, in Kafka as well
                stream.behind.clear()
        if not next_in_line:
            self.expiry.parked(share, device, name)
        self.replays.parked(share, device)
