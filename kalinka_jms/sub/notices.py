"""Follows the parked topics for what somebody else asks of them: that what waits for a device is dropped.

A request is a record among the parked ones, so that its offset says exactly what was parked before it; whoever has the
partition carries it out and ends it with a tombstone, also much later. One thread with a consumer of its own.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from kalinka_jms.config import Settings
from kalinka_jms.kafka import consumer
from kalinka_jms.names import parked_topic
from kalinka_jms.sub.parked import parse_drop_key
from kalinka_jms.sub.share import Share
from kalinka_jms.sub.worker import Failed, worker

log = logging.getLogger("kalinka.sub")

BATCH = 1000
"""Records taken from librdkafka at once."""

WAIT = 0.2
"""Seconds until an order is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """Somebody asks to drop what was parked for a device before `offset`."""

    share: Share
    device: str
    offset: int


class Notices:
    """The thread that follows the parked partitions of open shares; `post` gets `Dropped`."""

    def __init__(self, settings: Settings, post: Callable[[Dropped | Failed], None]) -> None:
        self._settings = settings
        self._post = post
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._shares: dict[tuple[str, int], Share] = {}
        self._thread = worker("notices", self._run, post)
        self.start = self._thread.start
        self.join = self._thread.join

    def follow(self, share: Share) -> None:
        """Begin where its index ends."""
        place = TopicPartition(parked_topic(share.group), share.partition, share.index.position)
        self._orders.put(lambda: self._begin(share, place))

    def close(self, share: Share) -> None:
        """Follow it no longer."""
        self._orders.put(lambda: self._end(share))

    def stop(self) -> None:
        self._orders.put(None)

    def _run(self) -> None:
        self._consumer: Consumer = consumer(self._settings, "kalinka-notices", **{"fetch.wait.max.ms": 500})
        try:
            while self._obey():
                for message in self._consumer.consume(BATCH, WAIT):
                    self._take(message)
        finally:
            self._consumer.close()

    def _obey(self) -> bool:
        """Carry out the orders that wait; with nothing to follow, wait for one. False at the end."""
        while True:
            try:
                order = self._orders.get(block=not self._shares)
            except queue.Empty:
                return True
            if order is None:
                return False
            order()

    def _begin(self, share: Share, place: TopicPartition) -> None:
        if share.open:
            self._shares[place.topic, place.partition] = share
            self._consumer.incremental_assign([place])

    def _end(self, share: Share) -> None:
        key = parked_topic(share.group), share.partition
        if self._shares.get(key) is share:
            del self._shares[key]
            self._consumer.incremental_unassign([TopicPartition(*key)])

    def _take(self, message: Any) -> None:
        if message.error() is not None:
            log.debug("cannot follow a parked topic now: %s", message.error().str())
            return
        share = self._shares.get((message.topic(), message.partition()))
        device = parse_drop_key(message.key()) if message.value() is not None else None
        if share is not None and device is not None:
            self._post(Dropped(share, device, message.offset()))
