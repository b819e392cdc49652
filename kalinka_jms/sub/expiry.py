"""Ends what may not be kept: what is too old (`ttl`), and of what is parked the oldest that is too much (`max_parked`).

Nothing that ran out of time is sent, wherever it waits: in a stream it is looked at just before it goes out, in the
parked topic by a round that goes on by itself, a part of it at each tick. Parked records leave in the order in which
they came: one that stands behind a younger one (its producer's clock was wrong) waits until that is gone, and is
`expired` then, or when it would be sent.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from kalinka_jms.errors import RecordError
from kalinka_jms.sub.items import Items
from kalinka_jms.sub.outcomes import Books
from kalinka_jms.sub.replays import Replays
from kalinka_jms.sub.share import Item, Share, Stream

LOOKS = 2000
"""Devices looked at in one tick: a million take two minutes, at some 1 % of a processor."""

ENDED = 2000
"""Parked records that a tick ends at most; it stops earlier where so many writes wait for Kafka."""

ROUND = 1.0
"""Seconds from the begin of one round to that of the next, at least."""


class Expiry:
    """What of the shares has run out of time, or of room."""

    def __init__(self, items: Items, books: Books, replays: Replays, wall: Callable[[], float] = time.time) -> None:
        """`wall` tells the time that records' timestamps are in, in seconds."""
        self._items = items
        self._books = books
        self._replays = replays
        self._wall = wall
        self._rounds: dict[Share, list[str]] = {}  # devices that this round has not looked at
        self._begun = 0.0

    def over(self, item: Item) -> bool:
        """Whether its time has run out."""
        return item.expires <= self._wall()

    def freshen(self, stream: Stream, now: float) -> None:
        """End what a stream holds that is too old, or was dropped. What is in flight of it stays."""
        wall, drop = self._wall(), stream.share.drops.get(stream.device, -1)
        if stream.expires > wall and drop < 0:
            return
        ended = stream.lane.discard(
            lambda item: item.expires <= wall or (item.parked is not None and item.parked < drop), now
        )
        ended += [item for item in stream.behind if item.expires <= wall]
        stream.behind = deque(item for item in stream.behind if item.expires > wall)
        stream.expires = min((item.expires for item in (*stream.lane.items, *stream.behind)), default=inf)
        for item in ended:
            self._replays.returned(stream.share, item)
            self._books.expire(stream.share, item)

    def parked(self, share: Share, device: str, name: str) -> None:
        """A record was parked just now: the oldest of its route leaves if it is one too many."""
        if device in share.drops:
            self._drop(share, device, ENDED)
        most = self._most(name)
        if most is not None:
            self._trim(share, device, name.partition(",")[0], most, ENDED)

    def tick(self, shares: Sequence[Share], now: float) -> None:
        """Go on with the round."""
        for one in shares:
            for device in [*one.drops]:
                if one.indexed and not one.closing and len(one.writes) < ENDED:
                    self._drop(one, device, ENDED)
        if not self._items.limited:
            return
        if not self._rounds and now - self._begun >= ROUND:
            self._begun = now
            self._rounds = {share: list(share.index.devices()) for share in shares if share.indexed}
        room = ENDED
        for _ in range(LOOKS):
            share = next(iter(self._rounds), None)
            if share is None or room <= 0:
                return
            if not share.open or share.closing or not self._rounds[share]:
                del self._rounds[share]
            elif len(share.writes) < ENDED:
                room -= self._look(share, self._rounds[share].pop(), room)
            else:
                return

    def drop(self, share: Share, device: str, offset: int) -> None:
        """Somebody asks to drop what was parked for a device before `offset`. It is `expired`, but for what is in
        flight: that is `delivered` if it was, and goes else."""
        share.drops[device] = max(offset, share.drops.get(device, -1))

    def _drop(self, share: Share, device: str, room: int) -> None:
        offset = share.drops[device]
        for name in share.index.topics(device):
            while room and (first := share.index.first(device, name, _loading(share, device, name))):
                if first[0] >= offset:
                    break
                self._end(share, device, name, first[1])
                room -= 1
        oldest = (share.index.oldest(device, name) for name in share.index.topics(device))
        if all(one is None or one >= offset for one in oldest) and not any(key[0] == device for key in share.parking):
            del share.drops[device]
            self._books.end_drop(share, device)

    def _look(self, share: Share, device: str, room: int) -> int:
        """What of a device has to go, `room` records at most; returns how many did."""
        ended = 0
        for name in share.index.topics(device):
            ended += self._age(share, device, name, room - ended)
        for name in share.index.topics(device):
            if (most := self._most(name)) is not None:
                ended += self._trim(share, device, name.partition(",")[0], most, room - ended)
        if room - ended <= 0:
            self._rounds[share].append(device)  # there may be more
        return ended

    def _age(self, share: Share, device: str, name: str, room: int) -> int:
        ttl, ended = self._limits(name)[0], 0
        if ttl is None:
            return 0
        limit = int((self._wall() - ttl) * 1000)
        while ended < room and (first := share.index.first(device, name, _loading(share, device, name))):
            if not 0 < first[2] <= limit:
                break
            self._end(share, device, name, first[1])
            ended += 1
        return ended

    def _trim(self, share: Share, device: str, topic: str, most: int, room: int) -> int:
        names = [name for name in share.index.topics(device) if name.partition(",")[0] == topic]
        held = sum(share.index.waiting(device, name) - _loading(share, device, name) for name in names)
        ended = min(held - most, room)
        for _ in range(ended):  # the order of their times: between sources there is no other
            firsts = ((share.index.first(device, name, _loading(share, device, name)), name) for name in names)
            _, _, id, name = min((first[2], first[0], first[1], name) for first, name in firsts if first is not None)
            self._end(share, device, name, id)
        return max(ended, 0)

    def _end(self, share: Share, device: str, name: str, id: str) -> None:
        self._books.expire_parked(share, device, name, id)
        self._replays.emptied(share, device)

    def _most(self, name: str) -> int | None:
        return self._limits(name)[1]

    def _limits(self, name: str) -> tuple[float | None, int | None]:
        try:
            return self._items.limits(name)
        except RecordError:
            return None, None  # no route has it any more: it is dead when its device listens


def _loading(share: Share, device: str, name: str) -> int:
    """Records of a stream that are being read from Kafka: they are on their way already."""
    chunk = share.loading.get((device, name))
    return 0 if chunk is None else len(chunk.wanted)
