"""`kalinka sub`: Kafka → the broker that owns the device.

One thread owns all state. It takes records, has them sent, parked or brought back (`streams`) and commits what is final
(`batches`); everything that happens elsewhere comes to it through one mailbox.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from kalinka_jms.config import Settings
from kalinka_jms.kafka import CONSUMER, await_equal_partitions, consumer, part_with
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.names import parked_topic
from kalinka_jms.registry import Client, Owners
from kalinka_jms.registry.entry import Entry
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.backlog import Backlog, Indexed, Loaded
from kalinka_jms.sub.batches import Batches
from kalinka_jms.sub.commits import Batch, Commits
from kalinka_jms.sub.figures import Figures
from kalinka_jms.sub.membership import Membership
from kalinka_jms.sub.notices import Dropped, Notices
from kalinka_jms.sub.outcomes import Books
from kalinka_jms.sub.outlet import LinkDown, LinkUp, Outlet, Proofs
from kalinka_jms.sub.partitions import Partitions
from kalinka_jms.sub.share import Share
from kalinka_jms.sub.streams import Streams
from kalinka_jms.sub.worker import Failed

log = logging.getLogger("kalinka.sub")

BATCH = 500
"""Records taken from librdkafka at once."""

TICK = 0.25
"""Seconds between looks at what has waited too long."""

POLL_WHEN_FULL = 1.0
"""Seconds the window may be full until Kafka hears from us all the same."""

SEND_TIMEOUT, HASTE = 4.0, 1.0
"""Seconds to send what was taken before its partition is given away, and until what waits by then is parked: a record
without an outcome holds back the offsets of those behind it, and they would be delivered once more."""

DRAIN_TIMEOUT = 8.0
"""Seconds to finish what is in flight before a partition is given away; the rest is sent again by its next owner."""

REJOIN = 5.0
"""Seconds beyond the longest rebalance (`max.poll.interval.ms`) that Kafka answers while the group gives nothing, after
which its client is given up."""

STALL = 5.0
"""Seconds without a turn after which the process counts as stopped: what its links say is not believed any more. Less
than Kafka's session timeout, after which another instance has its partitions."""


@dataclass(frozen=True, slots=True)
class OwnerChanged:
    """The registry says something new about a device."""

    device: str
    entry: Entry | None


class Sub:
    """The downlink of one instance."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.ready = threading.Event()
        """Set while partitions are assigned, or could be, and at least one link is up."""
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""
        self.waiting_for: tuple[str, ...] = ("the topics",)
        """What it lacks to be ready, in words; nothing where it is."""
        self._turned_at = self._ticked_at = time.monotonic()
        self._full_since: float | None = None
        self._build(client)
        self._thread = threading.Thread(target=self._run, name="sub", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def _build(self, client: Client) -> None:
        settings, post = self._settings, self._mailbox.put
        downlinks = Downlinks(settings.routes.down, settings.served)
        brokers = [broker for broker in settings.brokers if broker.group in settings.served]
        presence, words = downlinks.presence_topics, downlinks.device_topics
        self._outlets = {broker.name: Outlet(broker, presence, post, words) for broker in brokers}
        self._owners = Owners(client, settings.zookeeper.root, lambda *change: post(OwnerChanged(*change)))
        self._consumer = self._make_consumer()
        longest = float((CONSUMER | settings.kafka_settings())["max.poll.interval.ms"]) / 1000
        self._membership = Membership(self._make_consumer, longest + REJOIN)
        self._figures = Figures(downlinks, self._consumer, self._owners)
        self._commits = Commits(settings, post)
        self._backlog = Backlog(settings, post)
        self._notices = Notices(settings, post)
        self._streams = Streams(settings, downlinks, self._outlets, self._owners, self._backlog, self._turned_at)
        self._batches = Batches(self._consumer, self._commits, self._streams.books, self._streams.done)
        self._partitions = Partitions(self._consumer, downlinks, self._backlog.index, self._give_up, self._close)

    def stop(self) -> None:
        """Begin to finish what is in flight, commit and leave; `join` waits for it."""
        self._stop.set()

    @property
    def turned(self) -> float | None:
        """When its thread turned last (seconds, monotonic); None while there is nothing to turn."""
        return self._turned_at if self._partitions.subscribed else None

    @property
    def links(self) -> dict[str, bool]:
        """Broker → whether its link is up."""
        return self._streams.dispatcher.links

    @property
    def books(self) -> Books:
        """The outcomes so far."""
        return self._streams.books

    def samples(self) -> Iterable[Sample]:
        """The metrics, as they were at the last tick."""
        return self._figures.samples()

    # --- the thread

    def _run(self) -> None:
        try:
            self._commits.start()
            self._backlog.start()
            self._notices.start()
            for outlet in self._outlets.values():
                outlet.start()
            for group, topics in self._partitions.topics.items():
                await_equal_partitions(self._consumer, [*topics, parked_topic(group)], self._stop)
            self._partitions.join()
            self._turned_at = time.monotonic()
            while not self._stop.is_set():
                self._turn()
            self._give_up(self._partitions.shares)
        except BaseException as error:
            self.failure = error
            log.exception("the pipeline failed")
        finally:
            self._leave()

    def _leave(self) -> None:
        self._partitions.end(self._partitions.shares)
        self._commits.stop()
        self._backlog.stop()
        self._notices.stop()
        self._consumer.close()
        for outlet in self._outlets.values():
            outlet.stop()
        self._owners.close()
        for outlet in self._outlets.values():
            outlet.join(5.0)
        self._commits.join(5.0)
        self._backlog.join(5.0)
        self._notices.join(5.0)

    def _turn(self) -> None:
        now = self._same_process()
        for _ in range(self._mailbox.qsize()):
            self._handle(self._mailbox.get(), now)
        self._tick(now)
        self._streams.replays.look()
        self._streams.dispatcher.pump(now)
        self._batches.advance(self._partitions.shares, self._partitions.metadata, now)
        self._take(self._fetch(now), now)

    def _same_process(self) -> float:
        now = time.monotonic()
        if now - self._turned_at > STALL:
            for outlet in self._outlets.values():
                outlet.drop(None, f"this process stood still for {now - self._turned_at:.0f} s")
        self._turned_at = now
        return now

    def _handle(self, event: Any, now: float) -> None:
        shares = self._partitions.shares
        match event:
            case Proofs() | LinkDown() | LinkUp():
                self._streams.event(event, shares, now)
            case OwnerChanged(device, _):
                self._streams.owner_changed(device, shares, now)
            case Batch():
                self._batches.returned(event, now)
            case Indexed() | Loaded():
                self._streams.read(event, now)
                if isinstance(event, Indexed) and event.whole:
                    self._partitions.admit(event.share)
                    self._notices.follow(event.share)
            case Dropped(share, device, offset):
                self._streams.dropped(share, device, offset)
            case Failed(thread, error):
                raise RuntimeError(f"the thread {thread} failed") from error

    def _tick(self, now: float) -> None:
        if now - self._ticked_at >= TICK:
            self._ticked_at = now
            self._streams.tick(self._partitions.shares, now)
            self._stay_member(now)
            self._look_around()
            self._figures.state(self._streams, self._partitions.shares, now)

    def _look_around(self) -> None:
        """Whether it is ready."""
        lacking = {
            "partitions": not self._partitions.joined or self._membership.overdue,
            "the parked records": any(not share.indexed for share in self._partitions.shares),
            f"a link to one of {', '.join(self.links)}": not any(self.links.values()),
        }
        self.waiting_for = tuple(text for text, lacks in lacking.items() if lacks)
        if self.waiting_for:
            self.ready.clear()
        else:
            self.ready.set()

    def _stay_member(self, now: float) -> None:
        """Go on with a new client where the present one finds no way back into the group."""
        found = self._membership.look(self._partitions.subscribed and self._partitions.waiting, now)
        if found is None:
            return
        log.warning("Kafka's client finds no way back into the group: going on with a new one")
        given_up, self._consumer = self._consumer, found
        self._batches.consumer = self._figures.consumer = self._partitions.consumer = found
        self._batches.forget()
        self._partitions.join()
        part_with(given_up)  # last: what it still hears counts for nothing

    def _make_consumer(self) -> Consumer:
        def committed(error: Any, partitions: Sequence[TopicPartition]) -> None:
            if self._consumer is made:
                self._batches.answered(error, partitions)

        made = consumer(self._settings, self._settings.sub.consumer_group, on_commit=committed)
        return made

    # --- records

    def _fetch(self, now: float) -> list[Any]:
        """Take what Kafka has, unless the window is full; wait a little if there is nothing."""
        if self._full():
            return self._wait_for_room(now)
        self._full_since = None
        self._partitions.release()
        dispatcher = self._streams.dispatcher
        busy = dispatcher.in_flight or dispatcher.unconfirmed or self._batches.under_way
        waiting = not self._mailbox.empty() or self._streams.replays.busy
        first = self._consumer.poll(0.0 if waiting else 0.005 if busy else 0.05)
        return [] if first is None else [first, *self._consumer.consume(BATCH, 0)]

    def _full(self) -> bool:
        shares = self._partitions.shares
        if self._streams.crowded(shares):
            return True
        records, size = sum(share.pending for share in shares), sum(share.pending_bytes for share in shares)
        return records >= self._settings.sub.window_records or size >= self._settings.sub.window_bytes

    def _wait_for_room(self, now: float) -> list[Any]:
        """The window is full: wait for events instead; Kafka is to hear from us all the same."""
        self._full_since = self._full_since or now
        message = None
        if now - self._full_since > POLL_WHEN_FULL:
            self._partitions.hold()
            message = self._consumer.poll(0)
        with suppress(queue.Empty):
            self._handle(self._mailbox.get(timeout=0.05), now)
        return [] if message is None else [message]

    def _take(self, messages: Sequence[Any], now: float) -> None:
        for share, run in self._partitions.sorted(messages):
            self._streams.take(share, run, now)

    # --- the end of a share

    def _close(self, share: Share) -> None:
        self._notices.close(share)
        self._streams.close(share)

    def _give_up(self, shares: Sequence[Share]) -> None:
        """Send what was taken, finish what is in flight, and commit it."""
        begun = time.monotonic()
        self._batches.forget()
        while any(share.pending for share in shares) and (now := time.monotonic()) < begun + SEND_TIMEOUT:
            if now > begun + HASTE:
                self._streams.dispatcher.hasten(shares, now)
            self._streams.dispatcher.pump(now)
            self._advance(now)
        for share in shares:
            share.closing = True
        while shares and self._unfinished(shares) and (now := time.monotonic()) < begun + DRAIN_TIMEOUT:
            self._advance(now)
        self._turned_at = time.monotonic()  # it was waiting, not stopped
        self._figures.state(self._streams, self._partitions.shares, self._turned_at)

    def _advance(self, now: float) -> None:
        """Commit, and take in what happened, without a new record."""
        self._batches.advance(self._partitions.shares, self._partitions.metadata, now, wait=True)
        with suppress(queue.Empty):
            self._handle(self._mailbox.get(timeout=0.02), now)

    def _unfinished(self, shares: Sequence[Share]) -> bool:
        return self._streams.dispatcher.flying(shares) or self._batches.unfinished(shares)
