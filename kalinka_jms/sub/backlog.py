"""Reads the parked topics: once whole, for the index of a share, and then single records, for their replay.

One thread with a consumer of its own that belongs to no group's assignment. A partition is assigned only while
something of it is to be read. Records are read forward in the order of their offsets, skipping long gaps, so that many
devices that come back at once are served by one pass.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from kalinka_jms.config import Settings
from kalinka_jms.kafka import consumer, offset_of, part_with
from kalinka_jms.names import parked_topic
from kalinka_jms.sub.share import Share
from kalinka_jms.sub.worker import Failed, worker

log = logging.getLogger("kalinka.sub")

GAP = 2000
"""Offsets that are read over rather than jumped over: a jump costs a round trip."""

BATCH = 500
"""Records taken from librdkafka at once."""

CLIENT_AGE = 1.0
"""Seconds after which a client that got an error is replaced."""

CALL_TIMEOUT = 10.0
"""Seconds one question to Kafka may take before it is asked again."""

SILENCE = 15.0
"""Seconds without a word of Kafka (a record, the end, an error) about a partition that is to be read, after which the
clients are replaced. Longer than a transaction may stay open, for what is behind one comes when it ends; and longer
than `CALL_TIMEOUT`."""

Found = tuple[int, bytes | None, int | None, int]


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """What is in the parked topic, in order: offset, key, bytes (None: a tombstone), the record's time (milliseconds);
    `whole` with the last of it."""

    share: Share
    records: list[Found]
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
    asked: Future[Any]
    """Where the partition ends."""
    end: int | None = None
    """While indexing: the offset up to which to read; the high watermark, beyond transactions that are still open."""
    indexing: bool = True
    found: list[Found] = field(default_factory=list)
    """While indexing: what was read and not yet posted."""
    wanted: list[int] = field(default_factory=list)
    """Offsets from `position` on that are to be read; a heap."""
    later: list[int] = field(default_factory=list)
    """Offsets before `position`: for the next pass."""
    position: int = 0
    stale: bool = False
    """What is left of the records taken at once was read before a jump, and says nothing about the new place."""
    heard: float = 0.0
    """When Kafka said anything about it last (seconds, monotonic)."""

    @property
    def active(self) -> bool:
        """Whether something of it is to be read."""
        return self.indexing or bool(self.wanted)


class Backlog:
    """The thread that reads parked records; `post` gets `Indexed` and `Loaded`."""

    def __init__(self, settings: Settings, post: Callable[[Indexed | Loaded | Failed], None]) -> None:
        self._settings = settings
        self._post = post
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._readings: dict[tuple[str, int], _Reading] = {}  # by topic and partition
        self._told = ""
        self._thread = worker("backlog", self._run, post)
        self.start = self._thread.start
        self.join = self._thread.join

    def index(self, share: Share) -> None:
        """Read the partition of a share, from where its index stands."""
        start = share.index.position
        self._orders.put(lambda: self._begin(share, start))

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
        self._consumer = self._make_consumer()
        self._admin, self._asking_since = self._make_admin(), time.monotonic()
        try:
            while self._obey():
                for reading in self._readings.values():
                    if reading.end is None:
                        self._locate(reading)
                self._read()
                self._listen()
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
            order()

    def _active(self) -> bool:
        return any(reading.active for reading in self._readings.values())

    def _listen(self) -> None:
        """Clients that say nothing are replaced: they may never go on."""
        now = time.monotonic()
        active = [reading for reading in self._readings.values() if reading.active]
        if all(now - reading.heard <= SILENCE for reading in active):
            return
        log.warning("nothing comes of what is parked: it is read with new clients")
        part_with(self._consumer)
        self._consumer = self._make_consumer()
        self._replace_admin(now)
        for reading in active:
            if reading.end is not None:
                self._seek(reading, reading.position if reading.indexing else reading.wanted[0])

    def _read(self) -> None:
        for reading in self._readings.values():
            reading.stale = False
        for message in self._consumer.consume(BATCH, 0.05) if self._active() else ():
            found = self._readings.get((message.topic() or "", message.partition() or 0))
            if found is not None and not found.stale:
                self._take(found, message)

    def _begin(self, share: Share, start: int) -> None:
        if share.open:
            self._readings[_key(share)] = _Reading(share, self._ask(share), position=start, heard=time.monotonic())

    def _ask(self, share: Share) -> Future[Any]:
        """The end of the partition, with records of open transactions: their outcome may be decided already."""
        where = TopicPartition(*_key(share))
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        answers = self._admin.list_offsets(
            {where: latest}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=CALL_TIMEOUT
        )
        return answers[where]

    def _locate(self, reading: _Reading) -> None:
        """Begin to read when it is known where the partition ends."""
        if not reading.asked.done():
            return
        try:
            reading.end = offset_of(reading.asked)
        except KafkaException as error:
            self._tell(str(error.args[0]))
            self._ask_afresh(reading)
            return
        if reading.position < reading.end:
            self._seek(reading, reading.position)
        else:
            self._index(reading, None)

    def _ask_afresh(self, reading: _Reading) -> None:
        """With a new client where the present one has failed for a while: it goes on believing in the epoch of a leader
        for minutes, and gets no other answer (Kafka stood still for 15 s: tried)."""
        now = time.monotonic()
        if now - self._asking_since > CLIENT_AGE:
            self._replace_admin(now)
        else:
            reading.asked, reading.heard = self._ask(reading.share), now

    def _replace_admin(self, now: float) -> None:
        self._admin, self._asking_since = self._make_admin(), now
        for waiting in self._readings.values():
            if waiting.end is None:  # of a client that is gone no question is ever answered, nor times out (tried)
                waiting.asked, waiting.heard = self._ask(waiting.share), now

    def _make_consumer(self) -> Consumer:
        return consumer(self._settings, "kalinka-parked", **{"enable.partition.eof": True})

    def _make_admin(self) -> AdminClient:
        return AdminClient(self._settings.kafka_settings(), logger=log)

    def _want(self, share: Share, offsets: list[int]) -> None:
        reading = self._readings.get(_key(share))
        if reading is None or reading.share is not share:
            return
        idle = not reading.wanted
        for offset in offsets:
            heappush(reading.wanted if idle or offset >= reading.position else reading.later, offset)
        if idle:
            self._seek(reading, reading.wanted[0])

    def _end(self, share: Share) -> None:
        reading = self._readings.get(_key(share))
        if reading is not None and reading.share is share:
            self._unassign(reading)
            del self._readings[_key(share)]

    def _take(self, reading: _Reading, message: Any) -> None:
        error, reading.heard = message.error(), time.monotonic()
        if error is not None and error.code() != KafkaCode._PARTITION_EOF:
            self._tell(error.str())
            return
        reading.position = message.offset() + (1 if error is None else 0)
        if reading.indexing:
            self._index(reading, message if error is None else None)
        else:
            self._load(reading, message if error is None else None)

    def _index(self, reading: _Reading, message: Any) -> None:
        if message is not None:
            value = message.value()
            size = None if value is None else len(value)
            reading.found.append((message.offset(), message.key(), size, message.timestamp()[1]))
        whole = reading.end is not None and reading.position >= reading.end
        if whole:
            reading.indexing = False
            self._unassign(reading)
        if whole or len(reading.found) >= BATCH:
            self._told = ""
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
            self._seek(reading, reading.wanted[0])

    def _seek(self, reading: _Reading, offset: int) -> None:
        self._unassign(reading)
        self._consumer.incremental_assign([TopicPartition(*_key(reading.share), offset)])
        reading.position, reading.stale, reading.heard = offset, True, time.monotonic()

    def _unassign(self, reading: _Reading) -> None:
        where = TopicPartition(*_key(reading.share))
        reading.stale = True
        if where in self._consumer.assignment():
            self._consumer.incremental_unassign([where])

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            log.warning("cannot read parked records yet", extra={"reason": reason})
            self._told = reason


def _key(share: Share) -> tuple[str, int]:
    return parked_topic(share.group), share.partition
