"""The partitions that Kafka's group gives to an instance of `kalinka sub`, as shares.

A share needs the same partition number of all topics of its group; until they are together, and until the share is
ready, its partitions are paused. All of it happens on the thread that polls: the callbacks run inside `poll`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.parked import ParkedIndex
from kalinka_jms.sub.share import Share, Window

log = logging.getLogger("kalinka.sub")


NO_OFFSET = "Failed to fetch committed offset"
"""How librdkafka's word begins that it does not know where partitions begin. It asks no more by itself: they are read
from when they are assigned once more (so its source has it; a coordinator that moved just then stopped half of all
devices, or all, for good)."""

WINDOWS = 64
"""Partitions whose window of delivered records is kept, those that the instance had last."""

Key = tuple[str, int]
"""Group and number of a partition."""

Change = Callable[[Consumer, list[TopicPartition]], None]
"""What Kafka's client calls when the group gives or takes partitions."""


class Partitions:
    """The shares that are open, and what of them Kafka is to send."""

    def __init__(
        self,
        consumer: Consumer,
        downlinks: Downlinks,
        begin: Callable[[Share], None],
        give_up: Callable[[Sequence[Share]], None],
        close: Callable[[Share], None],
    ) -> None:
        """`begin`: a share opened; `give_up`: finish these, for they are closed after that; `close`: a share ended."""
        self.consumer = consumer
        self._downlinks = downlinks
        self._begin, self._give_up, self._close = begin, give_up, close
        self._shares: dict[Key, Share] = {}
        self._indexes: dict[Key, ParkedIndex] = {}  # of the partitions that were ours until this rebalance
        self._windows: OrderedDict[Key, Window] = OrderedDict()
        self._held = False
        self.topics: defaultdict[str, list[str]] = defaultdict(list)
        """Group → its topics."""
        for topic in downlinks.topics:
            self.topics[self._group(topic)].append(topic)
        self.metadata: Any = None
        """Names the generation of the group in which the shares were given to us."""
        self.subscribed = False
        """Whether `join` was called."""
        self.joined = False
        """Whether the group has given us anything yet."""
        self.waiting = True
        """Whether it has to say what is ours, at first or after it took everything."""

    @property
    def shares(self) -> list[Share]:
        return list(self._shares.values())

    def join(self) -> None:
        """Take part in the group from now on."""
        self.subscribed = True
        client = self.consumer

        def heard(change: Change) -> Change:
            """Only while that client is ours: one that was given up may still be told something."""
            return lambda consumer, partitions: change(consumer, partitions) if self.consumer is client else None

        client.subscribe(
            list(self._downlinks.topics),
            on_assign=heard(self._assigned),
            on_revoke=heard(self._revoked),
            on_lost=heard(self._lost),
        )

    def share(self, topic: str, partition: int) -> Share | None:
        """The open share of a partition whose parked records are known."""
        share = self._shares.get((self._group(topic), partition))
        return share if share is not None and share.indexed else None

    def sorted(self, messages: Iterable[Any]) -> Iterator[tuple[Share, list[Any]]]:
        """What Kafka handed over, by the share and topic it is for; the order in each stays."""
        for (topic, partition), run in groupby(messages, _place):
            if topic is None:
                self._hear([message.error().str() for message in run])
                continue
            share = self.share(topic, partition)
            if share is not None:  # else it was fetched before a rebalance: it comes again, to whoever has it now
                yield share, list(run)

    def _hear(self, errors: Sequence[str]) -> None:
        for reason in errors:
            log.warning("Kafka says", extra={"reason": reason})
        if any(reason.startswith(NO_OFFSET) for reason in errors):
            self._assign_again()

    def _assign_again(self) -> None:
        """What was read goes on where it is; of the rest Kafka is asked anew where it begins."""
        partitions = self.consumer.position(self.consumer.assignment())
        self.consumer.assign(partitions)
        self.consumer.pause(partitions)
        for share in self.shares:
            self.admit(share)

    def admit(self, share: Share) -> None:
        """The share is ready for records."""
        if share.open and share.indexed and not self._held:
            self.consumer.resume([TopicPartition(topic, share.partition) for topic in self.topics[share.group]])

    def hold(self) -> None:
        """Have Kafka send nothing more, until `release`."""
        if not self._held:
            self._held = True
            self.consumer.pause(self.consumer.assignment())

    def release(self) -> None:
        """There is room again."""
        if self._held:
            self._held = False
            for share in self.shares:
                self.admit(share)

    def end(self, shares: Sequence[Share]) -> None:
        """Nothing of these shares counts any more."""
        for share in shares:
            self._shares.pop(share.key, None)
            self._close(share)

    def _group(self, topic: str) -> str:
        return self._downlinks.route_for(topic)[1]

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        consumer.pause(partitions)
        self.joined, self.waiting = True, False
        # Not asked for again later: one who was thrown out and has not heard of it yet would be told "nobody", and to
        # nobody's transaction Kafka does not object.
        self.metadata = consumer.consumer_group_metadata()
        numbers: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for partition in partitions:
            numbers[self._group(partition.topic), partition.partition].add(partition.topic)
        for (group, number), topics in numbers.items():
            if topics == set(self.topics[group]):
                self._open((group, number))
            else:
                log.warning("a partition waits until its topics come together", extra={"partition": number})
        self._indexes.clear()
        log.info("partitions assigned", extra={"partitions": len(partitions)})

    def _open(self, key: Key) -> None:
        """What was known of the partition still counts: only what came since then is read."""
        window = self._windows.setdefault(key, Window())
        self._windows.move_to_end(key)
        while len(self._windows) > max(WINDOWS, len(self._shares) + 1):
            self._windows.popitem(last=False)
        share = self._shares[key] = Share(*key, self._indexes.pop(key, None), window)
        self._begin(share)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.waiting = True
        shares = self._of(partitions)
        if shares:
            self._give_up(shares)
        kept = {share.key: index for share in shares if (index := share.leave_index()) is not None}
        self.end(shares)
        self._indexes = kept
        log.info("partitions revoked", extra={"partitions": len(partitions)})

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Somebody else has them already: nothing of ours counts any more."""
        self.waiting = True
        self.end(self._of(partitions))
        log.warning("partitions lost", extra={"partitions": len(partitions)})

    def _of(self, partitions: list[TopicPartition]) -> list[Share]:
        keys = {(self._group(partition.topic), partition.partition) for partition in partitions}
        return [share for key, share in self._shares.items() if key in keys]


def _place(message: Any) -> tuple[str | None, int]:
    """Where a record comes from; no topic for what is an error."""
    return (None, -1) if message.error() is not None else (message.topic(), message.partition())
