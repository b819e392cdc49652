"""Gives every record its one outcome, and makes batches of what must become final in Kafka.

`taken` = the sum of `outcomes` + `pending`, always.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kalinka_jms.commits import Batch
from kalinka_jms.parked import parked_key
from kalinka_jms.records import KALINKA_HOPS, KALINKA_ID, dead_record
from kalinka_jms.settings import DownRoute
from kalinka_jms.share import Item, Outcome, Share, Write

log = logging.getLogger("kalinka.sub")

BATCH_RECORDS = 5000
"""Records written in one Kafka transaction, at most."""

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of values after which a transaction takes no further record."""

Headers = list[tuple[str, bytes | None]]


class Books:
    """The outcomes of all shares of an instance."""

    def __init__(self, dead: str, parked: Callable[[str], str]) -> None:
        """`dead`: the dead-letter topic; `parked`: group → the name of its parked topic."""
        self._dead = dead
        self._parked = parked
        self.taken = 0
        """Records taken from Kafka."""
        self.outcomes: Counter[Outcome] = Counter()
        """Records by outcome. A parked record that is replayed counts once as parked, and then as what it becomes."""
        self.replayed: Counter[Outcome] = Counter()
        """Outcomes of records that had been parked."""

    def summary(self) -> dict[str, int]:
        """Records by outcome."""
        return {outcome.value: self.outcomes[outcome] for outcome in Outcome}

    def take(self, share: Share, message: Any) -> bool:
        """A record came; False if it was taken before."""
        if not share.begin(message.topic(), message.offset()):
            return False
        share.pending += 1
        share.pending_bytes += _size(message)
        self.taken += 1
        return True

    def final(self, share: Share, item: Item, outcome: Outcome) -> None:
        """An item needs nothing more from Kafka than its offset, or, where it had been parked, its tombstone."""
        if item.parked is None:
            self._ended(share, item.message, outcome)
        else:
            self._unpark(share, item, outcome)
        share.active.discard(identity(item))

    def duplicate(self, share: Share, item: Item) -> None:
        """Another record with the same id is delivered, parked or on its way: that one counts."""
        self._ended(share, item.message, Outcome.DUPLICATE)

    def bury(
        self, share: Share, message: Any, reason: str, origin: str, key: bytes | None, *, replay: bool = False
    ) -> None:
        """A record that can never be delivered is kept in the dead-letter topic, byte for byte."""
        log.warning("dead letter", extra={"reason": reason, "origin": origin})
        headers = dead_record(message.headers(), origin, reason)
        write = Write(self._dead, key, message.value(), headers, -1, Outcome.DEAD, None, message, replay)
        share.writes.append(write)

    def park(self, share: Share, name: str, items: Iterable[Item]) -> None:
        """New records of an absent device go to the parked topic, under the partition number that they came from."""
        for item in items:
            command = item.command
            headers = _with(item.message.headers(), KALINKA_ID, command.id.encode())
            share.parking[command.device, name] += 1
            share.writes.append(
                Write(
                    self._parked(share.group),
                    parked_key(command.device, name, command.id),
                    item.message.value(),
                    headers,
                    share.partition,
                    Outcome.PARKED,
                    item,
                    item.message,
                )
            )

    def move(self, share: Share, items: Sequence[Item], route: DownRoute, group: str) -> None:
        """Records of a device of another group go to that group's topic, with one more hop."""
        topic = route.from_.replace("{group}", group)
        for item in items:
            command = item.command
            headers = _with(item.message.headers(), KALINKA_ID, command.id.encode())
            headers = _with(headers, KALINKA_HOPS, str(command.hops + 1).encode(), replace=True)
            key, value = command.device.encode(), item.message.value()
            share.writes.append(Write(topic, key, value, headers, -1, Outcome.MOVED, item, item.message))

    def batch(self, shares: Iterable[Share]) -> Batch:
        """What is to become final now. What cannot be part of it keeps its offset uncommitted."""
        batch = Batch()
        size = 0
        shares = [share for share in shares if share.open]
        for share in shares:
            while share.writes and len(batch.writes) < BATCH_RECORDS and size < BATCH_BYTES:
                write = share.writes.popleft()
                size += len(write.value or b"")
                batch.writes.append((share, write))
                self._decided(share, write)
        batch.offsets = [(share, topic, offset) for share in shares for topic, offset in share.positions()]
        return batch

    def committed(self, batch: Batch) -> None:
        """The batch is final."""
        for share, topic, offset in batch.offsets:
            share.committed(topic, offset)

    def undone(self, batch: Batch) -> None:
        """Nothing of the batch happened: its records come first in the next one."""
        for share, write in reversed(batch.writes):
            share.writes.appendleft(write)

    def _decided(self, share: Share, write: Write) -> None:
        """The offset of a written record may be committed with the transaction that writes it."""
        if write.decided or write.outcome is None:
            return
        write.decided = True
        if write.item is not None and write.item.parked is not None:
            self._unpark(share, write.item, write.outcome)
        elif write.replay:
            self.replayed[write.outcome] += 1
        else:
            self._ended(share, write.message, write.outcome)
        if write.item is not None:
            share.active.discard(identity(write.item))

    def _ended(self, share: Share, message: Any, outcome: Outcome) -> None:
        share.finish(message.topic(), message.offset())
        share.pending -= 1
        share.pending_bytes -= _size(message)
        self.outcomes[outcome] += 1

    def _unpark(self, share: Share, item: Item, outcome: Outcome) -> None:
        command = item.command
        self.tombstone(share, command.device, item.name, command.id)
        self.replayed[outcome] += 1

    def tombstone(self, share: Share, device: str, name: str, id: str) -> None:
        """A parked record has its outcome: nobody is to replay it."""
        share.index.remove(device, name, id)
        share.writes.append(Write(self._parked(share.group), parked_key(device, name, id), None, [], share.partition))


def identity(item: Item) -> tuple[str, int]:
    """What makes a record a duplicate: the id, and the hops, since a record that was handed over is not one."""
    return item.command.id, item.command.hops


def _size(message: Any) -> int:
    return len(message.value() or b"") + len(message.key() or b"") + 100


def _with(headers: Any, name: str, value: bytes, *, replace: bool = False) -> Headers:
    """The headers with this one; where it is there already it stays, or is replaced."""
    kept = list(headers or ())
    if any(header == name for header, _ in kept):
        if not replace:
            return kept
        kept = [header for header in kept if header[0] != name]
    return [*kept, (name, value)]
