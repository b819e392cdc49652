"""Reads the parked topics: once whole, for the index of a share, and then single records, for their replay.

One thread with a consumer of its own that belongs to no group's assignment. A partition is assigned only while
something of it is to be read. Records are read forward in the order of their offsets, skipping long gaps, so that many
devices that come back at once are served by one pass.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import AdminClient, OffsetSpec

from kalinka_jms.config import Settings
from kalinka_jms.kafka import consumer
from kalinka_jms.share import Share

log = logging.getLogger("kalinka.sub")

GAP = 2000
"""Offsets that are read over rather than jumped over: a jump costs a round trip."""

BATCH = 500
"""Records taken from librdkafka at once."""

CALL_TIMEOUT = 10.0
"""Seconds one question to Kafka may take before it is asked again."""


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """Records (or tombstones) of the parked topic, in order; `whole` with the last of them."""

    share: Share
    messages: list[Any]
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A parked record that was asked for; `message` is None where it is not there any more."""

    share: Share
    offset: int
    message: Any


@dataclass(slots=True, eq=False)
class _Reading:
    """One partition that is being read."""

    share: Share
    end: int
    """While indexing: the offset up to which to read; the high watermark, beyond transactions that are still open."""
    indexing: bool = True
    found: list[Any] = field(default_factory=list)
    """While indexing: what was read and not yet posted."""
    wanted: list[int] = field(default_factory=list)
    """Offsets from `position` on that are to be read; a heap."""
    later: list[int] = field(default_factory=list)
    """Offsets before `position`: for the next pass."""
    position: int = 0


class Backlog:
    """The thread that reads parked records; `post` gets `Indexed` and `Loaded`."""

    def __init__(
        self, settings: Settings, topic: Callable[[str], str], post: Callable[[Indexed | Loaded], None]
    ) -> None:
        """`topic`: group → the name of its parked topic."""
        self._settings = settings
        self._topic = topic
        self._post = post
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._readings: dict[tuple[str, int], _Reading] = {}
        self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def index(self, share: Share) -> None:
        """Read the whole partition of a share."""
        self._orders.put(lambda: self._begin(share))

    def load(self, share: Share, offsets: Iterable[int]) -> None:
        """Read these records."""
        wanted = list(offsets)
        self._orders.put(lambda: self._want(share, wanted))

    def close(self, share: Share) -> None:
        """Stop reading for a share."""
        self._orders.put(lambda: self._end(share))

    def stop(self) -> None:
        self._orders.put(None)

    def _run(self) -> None:
        self._consumer: Consumer = consumer(self._settings, "kalinka-parked", **{"enable.partition.eof": True})
        self._admin = AdminClient(self._settings.kafka_settings(), logger=log)
        try:
            while self._obey():
                for message in self._consumer.consume(BATCH, 0.05) if self._active() else ():
                    self._take(message)
        finally:
            self._consumer.close()

    def _obey(self) -> bool:
        """Carry out the orders that wait; with nothing to read, wait for one. False at the end."""
        while True:
            try:
                order = self._orders.get(block=not self._active())
            except queue.Empty:
                return True
            if order is None:
                return False
            try:
                order()
            except KafkaException as error:  # Kafka is away: the same order again, after the others
                log.warning("cannot read parked records yet", extra={"reason": str(error.args[0])})
                self._orders.put(order)

    def _active(self) -> bool:
        return any(reading.indexing or reading.wanted for reading in self._readings.values())

    def _begin(self, share: Share) -> None:
        if not share.open:
            return
        end = self._high_watermark(share)
        self._readings[share.key] = _Reading(share, end)
        if end == 0:
            self._index(self._readings[share.key], None)
        else:
            self._assign(share, 0)

    def _want(self, share: Share, offsets: list[int]) -> None:
        reading = self._readings.get(share.key)
        if reading is None or reading.share is not share:
            return
        idle = not reading.wanted
        for offset in offsets:
            heappush(reading.wanted if idle or offset >= reading.position else reading.later, offset)
        if idle:
            self._jump(reading)

    def _end(self, share: Share) -> None:
        reading = self._readings.get(share.key)
        if reading is not None and reading.share is share:
            self._unassign(reading)
            del self._readings[share.key]

    def _take(self, message: Any) -> None:
        error = message.error()
        reading = self._reading(message)
        if reading is None:
            return
        if error is not None and error.code() != KafkaCode._PARTITION_EOF:
            log.warning("cannot read parked records yet", extra={"reason": error.str()})
            return
        reading.position = message.offset() + (1 if error is None else 0)
        if reading.indexing:
            self._index(reading, message if error is None else None)
        else:
            self._load(reading, message if error is None else None)

    def _index(self, reading: _Reading, message: Any) -> None:
        if message is not None:
            reading.found.append(message)
        whole = reading.position >= reading.end
        if whole:
            reading.indexing = False
            self._unassign(reading)
        if whole or len(reading.found) >= BATCH:
            self._post(Indexed(reading.share, reading.found, whole))
            reading.found = []

    def _load(self, reading: _Reading, message: Any) -> None:
        """One record came (None: the end of the partition). What was passed without coming is not there any more."""
        wanted = reading.wanted
        while wanted and wanted[0] < reading.position:
            offset = heappop(wanted)
            found = message is not None and message.offset() == offset
            self._post(Loaded(reading.share, offset, message if found else None))
        if not wanted:
            reading.wanted, reading.later = reading.later, wanted
        if not reading.wanted:
            self._unassign(reading)
        elif not reading.position <= reading.wanted[0] <= reading.position + GAP:
            self._jump(reading)

    def _jump(self, reading: _Reading) -> None:
        self._unassign(reading)
        self._assign(reading.share, reading.wanted[0])
        reading.position = reading.wanted[0]

    def _reading(self, message: Any) -> _Reading | None:
        for reading in self._readings.values():
            if message.partition() == reading.share.partition and message.topic() == self._topic(reading.share.group):
                return reading
        return None

    def _high_watermark(self, share: Share) -> int:
        """The end of the partition, records of open transactions included: their outcome may be decided already."""
        where = TopicPartition(self._topic(share.group), share.partition)
        answers = self._admin.list_offsets(
            {where: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=CALL_TIMEOUT
        )
        return int(answers[where].result().offset)

    def _assign(self, share: Share, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self._topic(share.group), share.partition, offset)])

    def _unassign(self, reading: _Reading) -> None:
        where = TopicPartition(self._topic(reading.share.group), reading.share.partition)
        if where in self._consumer.assignment():
            self._consumer.incremental_unassign([where])
