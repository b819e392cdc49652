"""Gives every record its one outcome, and makes batches of what must become final in Kafka.

`taken` = the sum of `outcomes` + what is pending in the open shares + `given_back`, always.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from kalinka_jms.config.settings import DownRoute
from kalinka_jms.dead import KALINKA_ORIGIN, KALINKA_REASON, dead_record
from kalinka_jms.names import parked_topic
from kalinka_jms.records import KALINKA_HOPS, KALINKA_ID, KALINKA_TIME
from kalinka_jms.sub.account import Accounts
from kalinka_jms.sub.commits import Batch
from kalinka_jms.sub.parked import drop_key, parked_key
from kalinka_jms.sub.share import Item, Outcome, Share, Write

log = logging.getLogger("kalinka.sub")

BATCH_RECORDS = 5000
"""Records written in one Kafka transaction, at most."""

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of values after which a transaction takes no further record."""

Headers = list[tuple[str, bytes | None]]


class Books:
    """The outcomes of all shares of an instance."""

    def __init__(self, dead: str) -> None:
        """`dead`: the dead-letter topic."""
        self._dead = dead
        self._again: list[tuple[Share, Write]] = []
        self.accounts = Accounts()
        self.replayed: Counter[Outcome] = Counter()
        """Outcomes of records that had been parked, and counted as parked then."""

    @property
    def taken(self) -> int:
        """Records taken from Kafka."""
        return self.accounts.taken

    @property
    def given_back(self) -> int:
        """Records that had no outcome when their partition was taken away: whoever has it takes them again."""
        return self.accounts.given_back

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Records by outcome."""
        return self.accounts.outcomes

    def summary(self) -> dict[str, int]:
        """Records by outcome."""
        return {outcome.value: self.outcomes[outcome] for outcome in Outcome}

    def take(self, share: Share, messages: Sequence[Any]) -> Sequence[Any]:
        """Records of one topic came; those of them that were not taken before."""
        topic = messages[0].topic()
        places = share.begin(topic, *[message.offset() for message in messages])
        new = messages if len(places) == len(messages) else [messages[place] for place in places]
        share.pending += len(new)
        share.pending_bytes += sum(map(_size, new))
        self.accounts.take(share, topic, len(new))
        return new

    def give_back(self, share: Share) -> None:
        """The share ended: what has no outcome gets none here."""
        self.accounts.give_back(share)
        share.pending = share.pending_bytes = 0

    def delivered(self, share: Share, items: Sequence[Item]) -> None:
        """Items need nothing more from Kafka than their offsets."""
        share.window.add(*(marks := [item.mark for item in items]))
        share.active.difference_update(marks)
        topics: defaultdict[str, list[Any]] = defaultdict(list)
        for item in items:
            topics[item.message.topic()].append(item.message)
        for messages in topics.values():
            self._finished(share, messages, Outcome.DELIVERED)

    def delivered_parked(self, share: Share, item: Item) -> None:
        """An item that had been parked needs its tombstone."""
        share.window.add(item.mark)
        share.active.discard(item.mark)
        self._unparked(share, *item.mark[:3], Outcome.DELIVERED)

    def duplicate(self, share: Share, item: Item) -> None:
        """The same record is delivered, parked or on its way: that one counts."""
        self._finished(share, [item.message], Outcome.DUPLICATE)

    def duplicate_parked(self, share: Share, item: Item) -> None:
        """A parked record that this instance has delivered: it lost the partition before Kafka heard of that."""
        self._unparked(share, *item.mark[:3], Outcome.DUPLICATE)

    def expire(self, share: Share, item: Item) -> None:
        """Its time ran out before it was sent."""
        share.active.discard(item.mark)
        if item.parked is None:
            self._finished(share, [item.message], Outcome.EXPIRED)
        else:
            self.expire_parked(share, *item.mark[:3])

    def expire_parked(self, share: Share, device: str, name: str, id: str) -> None:
        """A parked record may not be kept any longer; its tombstone is written with the next batch."""
        self._unparked(share, device, name, id, Outcome.EXPIRED)

    def end_drop(self, share: Share, device: str) -> None:
        """A request to drop what is parked for a device was carried out."""
        share.writes.append(_tombstone(share, drop_key(device)))

    def bury(self, share: Share, message: Any, reason: str) -> None:
        """A record that can never be delivered is kept in the dead-letter topic, byte for byte."""
        self._bury(share, message, reason, message.key(), replay=False)

    def bury_parked(self, share: Share, message: Any, reason: str, name: tuple[str, str, str]) -> None:
        """As `bury`, for a record that is parked under this device, stream and id; its tombstone follows."""
        self._bury(share, message, reason, name[0].encode(), replay=True)
        share.index.remove(*name)

    def reject(self, share: Share, item: Item, reason: str) -> None:
        """A record that its broker does not take, and never will: kept like those of `bury` and `bury_parked`."""
        replay = item.parked is not None
        self._bury(share, item.message, reason, item.command.device.encode(), replay, item)
        if replay:
            share.index.remove(*item.mark[:3])

    def park(self, share: Share, items: Iterable[Item]) -> None:
        """New records of an absent device go to the parked topic, under the partition number that they came from."""
        topic = parked_topic(share.group)
        for item in items:
            device, name, id = item.mark[:3]
            key, headers = parked_key(device, name, id), _with(item.message.headers(), KALINKA_ID, id.encode())
            headers.append((KALINKA_ORIGIN, _place(item.message).encode()))
            write = Write(topic, key, item.message.value(), headers, share.partition, Outcome.PARKED, item)
            write.message, write.stream, write.timestamp = item.message, (device, name), item.command.timestamp
            share.parking[device, name] += 1
            share.writes.append(write)

    def move(self, share: Share, items: Sequence[Item], route: DownRoute, group: str) -> None:
        """Records of a device of another group go to that group's topic, with one more hop."""
        topic = route.from_.replace("{group}", group)
        for item in items:
            command = item.command
            headers, _ = _original(item.message, replay=item.parked is not None)
            headers = _with(headers, KALINKA_ID, item.mark[2].encode())
            headers = _with(headers, KALINKA_HOPS, str(command.hops + 1).encode(), replace=True)
            if command.timestamp > 0:  # not as Kafka's timestamp: a topic may delete by it
                headers = _with(headers, KALINKA_TIME, b"%d" % command.timestamp)
            write = Write(topic, command.device.encode(), item.message.value(), headers, -1, Outcome.MOVED, item)
            write.message, write.replay = item.message, item.parked is not None
            share.writes.append(write)
            if write.replay:
                share.index.remove(*item.mark[:3])
                share.active.add(item.mark)  # known until it is written: the same record may come again

    def batch(self, shares: Iterable[Share]) -> Batch:
        """What is to become final now.

        An offset may be committed with the writes it depends on, or after them. What a batch took and Kafka did not
        get comes first in the next one, all of it: so no batch can pass it.
        """
        batch = Batch([(share, write) for share, write in self._again if share.open])
        self._again = []
        shares = [share for share in shares if share.open]
        size = sum(len(write.value or b"") for _, write in batch.writes)
        for share in shares:
            while share.writes and len(batch.writes) < BATCH_RECORDS and size < BATCH_BYTES:
                write = share.writes.popleft()
                size += len(write.value or b"")
                batch.writes.append((share, write))
                share.writing += 1
                if write.outcome is not None and not write.replay:
                    share.finish(write.message.topic(), write.message.offset())
        batch.offsets = [(share, *place) for share in shares for place in share.moved()]
        if batch.writes and not batch.offsets:
            # a transaction without an offset would go through even where the group has moved on; before anything was
            # taken it is that of the parked records, which nobody asks the group for
            places = [(share, *place) for share in shares for place in share.positions()]
            batch.offsets = places[:1] or [(one, parked_topic(one.group), one.index.position) for one in shares[:1]]
        return batch

    @property
    def refused(self) -> bool:
        """Whether something must be written again."""
        return bool(self._again)

    def committed(self, batch: Batch) -> None:
        """The batch is final."""
        for share, topic, offset in batch.offsets:
            share.committed(topic, offset)
        for share, write in batch.writes:
            share.writing -= 1
            if share.open and write.outcome is not None:
                self._written(share, write, write.outcome)

    def undone(self, batch: Batch) -> None:
        """Nothing of the batch happened. What Kafka can never take becomes a dead letter, the rest is tried again."""
        for _, write in batch.writes:
            if write.refused:
                self._replace(write)
        self._again = batch.writes

    def _bury(
        self, share: Share, message: Any, reason: str, key: bytes | None, replay: bool, item: Item | None = None
    ) -> None:
        headers, origin = _original(message, replay)
        log.warning("dead letter", extra={"reason": reason, "origin": origin})
        headers = dead_record(headers, _place(message), origin, reason, time.time())
        write = Write(self._dead, key, message.value(), headers, -1, Outcome.DEAD, item, message, replay)
        share.writes.append(write)

    def _replace(self, write: Write) -> None:
        """Kafka refuses it, most likely for its size: dead, and if that is refused too, without the value."""
        message, reason = write.message, f"Kafka refuses it in {write.topic}: {write.refused}"
        headers, origin = _original(message, write.replay)
        elsewhere = ""
        if write.item is not None:
            write.key = write.item.command.device.encode()
        if write.outcome is Outcome.DEAD:
            earlier = (dict(write.headers).get(KALINKA_REASON) or b"").decode()
            elsewhere = _place(message)
            reason = f"{earlier}; the value is not here but at {elsewhere}, {len(write.value or b'')} bytes: {reason}"
            write.key, write.value, headers = None, None, []
            write.stub = True
        log.error("Kafka refuses a record that must be kept", extra={"reason": reason, "origin": origin})
        write.headers = dead_record(headers, _place(message), origin, reason, time.time(), elsewhere=elsewhere)
        write.topic, write.partition, write.outcome, write.refused = self._dead, -1, Outcome.DEAD, ""

    def _written(self, share: Share, write: Write, outcome: Outcome) -> None:
        if write.replay:
            self.replayed[outcome] += 1
            if not write.stub:  # a stub's value is where it is parked
                key = parked_key(*write.item.mark[:3]) if write.item else write.message.key()
                share.writes.append(_tombstone(share, key))
        else:
            self._ended(share, [write.message], outcome)
        if write.item is not None:
            share.active.discard(write.item.mark)

    def _unparked(self, share: Share, device: str, name: str, id: str, outcome: Outcome) -> None:
        self.replayed[outcome] += 1
        share.index.remove(device, name, id)
        share.writes.append(_tombstone(share, parked_key(device, name, id)))

    def _finished(self, share: Share, messages: Sequence[Any], outcome: Outcome) -> None:
        share.finish(messages[0].topic(), *[message.offset() for message in messages])
        self._ended(share, messages, outcome)

    def _ended(self, share: Share, messages: Sequence[Any], outcome: Outcome) -> None:
        share.pending -= len(messages)
        share.pending_bytes -= sum(map(_size, messages))
        self.accounts.end(share, messages, outcome)


def _tombstone(share: Share, key: bytes | None) -> Write:
    """A parked record has its outcome: nobody is to replay it."""
    return Write(parked_topic(share.group), key, None, [], share.partition)


def _place(message: Any) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def _original(message: Any, replay: bool) -> tuple[Headers, str]:
    """The headers that a record came with, and where it came from; a parked one (`replay`) has that in a header."""
    headers, place = _headers(message), _place(message)
    if not replay:
        return headers, place
    found = next((number for number, header in reversed([*enumerate(headers)]) if header[0] == KALINKA_ORIGIN), None)
    if found is None:
        return headers, place
    return headers, (headers.pop(found)[1] or b"").decode()


def _size(message: Any) -> int:
    return len(message) + len(message.key() or b"") + 100


def _headers(message: Any) -> Headers:
    """A record's headers; none where they cannot be read."""
    try:
        return list(message.headers() or ())
    except ValueError:
        return []


def _with(headers: Any, name: str, value: bytes, *, replace: bool = False) -> Headers:
    """The headers with this one; where it is there already it stays, or is replaced."""
    kept = list(headers or ())
    if any(header == name for header, _ in kept):
        if not replace:
            return kept
        kept = [header for header in kept if header[0] != name]
    return [*kept, (name, value)]
