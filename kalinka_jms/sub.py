"""`kalinka sub`: Kafka → the broker that owns the device.

One thread owns all state. It takes records, has them sent (`dispatch`), gives each its outcome (`outcomes`), brings
parked ones back (`replays`) and commits what is final (`commits`); everything that happens elsewhere comes to it
through one mailbox.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from kalinka_jms.backlog import Backlog, Indexed, Loaded
from kalinka_jms.commits import REPLACED, Batch, Commits
from kalinka_jms.config import Settings
from kalinka_jms.dispatch import Dispatcher
from kalinka_jms.entry import Entry
from kalinka_jms.errors import RecordError
from kalinka_jms.kafka import await_equal_partitions, consumer
from kalinka_jms.outcomes import Books, identity
from kalinka_jms.outlet import LinkDown, LinkUp, Outlet, Proofs
from kalinka_jms.parked import parse_parked_key
from kalinka_jms.records import DEFAULT_SOURCE, from_record
from kalinka_jms.registry import Client, Owners
from kalinka_jms.replays import Replays
from kalinka_jms.routes import Downlinks, matches
from kalinka_jms.sends import Send, send_prefix
from kalinka_jms.share import Item, Outcome, Share, Stream, Write

log = logging.getLogger("kalinka.sub")

BATCH = 500
"""Records taken from librdkafka at once."""

COMMIT_EVERY = 0.1
"""Seconds between commits of offsets alone."""

TICK = 0.25
"""Seconds between looks at what has waited too long."""

DRAIN_TIMEOUT = 8.0
"""Seconds to finish what is in flight before a partition is given away; the rest is sent again by its next owner."""

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
        self._downlinks = Downlinks(settings.routes.down, settings.served)
        self._topics: dict[str, list[str]] = defaultdict(list)  # group → its topics
        for topic in self._downlinks.topics:
            self._topics[self._downlinks.route_for(topic)[1]].append(topic)
        self._mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.ready = threading.Event()
        """Set while partitions are assigned, or could be, and at least one link is up."""
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""
        self._shares: dict[tuple[str, int], Share] = {}
        self._batch: Batch | None = None
        self._giving_up = False
        self._forgotten = 0  # answers to commits that nobody waits for any more
        self._committed_at = self._turned_at = self._ticked_at = time.monotonic()
        self._full_since: float | None = None
        self._joined = False
        self._build(client)
        self._thread = threading.Thread(target=self._run, name="sub", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def _build(self, client: Client) -> None:
        settings, post = self._settings, self._mailbox.put
        brokers = [broker for broker in settings.brokers if broker.group in settings.served]
        presence = self._downlinks.presence_topics
        self._outlets = {broker.name: Outlet(broker, presence, post) for broker in brokers}
        self._owners = Owners(client, settings.zookeeper.root, lambda *change: post(OwnerChanged(*change)))
        self._consumer: Consumer = consumer(settings, settings.sub.consumer_group, on_commit=self._offsets_committed)
        self._commits = Commits(settings, post)
        self._backlog = Backlog(settings, parked_topic, post)
        self.books = Books(settings.dead, parked_topic)
        canaries = [send_prefix(canary, 0) for canary in self._downlinks.canaries]
        groups = {broker.name: broker.group for broker in settings.brokers}
        now = time.monotonic()
        self.dispatcher = Dispatcher(settings.sub, self._outlets, groups, canaries, self._owners, self, now)
        self._replays = Replays(
            self._backlog, self._owners, self.dispatcher, self._destination, self._parked_item, self._bury_parked
        )

    def stop(self) -> None:
        """Begin to finish what is in flight, commit and leave; `join` waits for it."""
        self._stop.set()

    @property
    def links(self) -> dict[str, bool]:
        """Broker → whether its link is up."""
        return self.dispatcher.links

    # --- the thread

    def _run(self) -> None:
        try:
            self._start_parts()
            self._await_topics()
            self._consumer.subscribe(
                list(self._downlinks.topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
            while not self._stop.is_set():
                self._turn()
            self._give_up(list(self._shares.values()))
        except BaseException as error:
            self.failure = error
            log.exception("the pipeline failed")
        finally:
            self._leave()

    def _start_parts(self) -> None:
        self._commits.start()
        self._backlog.start()
        for outlet in self._outlets.values():
            outlet.start()

    def _leave(self) -> None:
        for share in self._shares.values():
            share.open = False
        self._consumer.close()
        for outlet in self._outlets.values():
            outlet.stop()
        self._commits.stop()
        self._backlog.stop()
        self._owners.close()
        for outlet in self._outlets.values():
            outlet.join(5.0)
        self._commits.join(5.0)
        self._backlog.join(5.0)

    def _turn(self) -> None:
        now = self._same_process()
        self._drain_mailbox(now)
        self._tick(now)
        self.dispatcher.pump(now)
        self._commit(now)
        for message in self._fetch(now):
            self._take(message, now)

    def _same_process(self) -> float:
        now = time.monotonic()
        if now - self._turned_at > STALL:
            for outlet in self._outlets.values():
                outlet.drop(None, f"this process stood still for {now - self._turned_at:.0f} s")
        self._turned_at = now
        return now

    def _drain_mailbox(self, now: float) -> None:
        for _ in range(self._mailbox.qsize()):
            self._handle(self._mailbox.get(), now)

    def _handle(self, event: Any, now: float) -> None:
        match event:
            case Proofs() | LinkDown():
                self.dispatcher.event(event, now)
            case LinkUp():
                self.dispatcher.event(event, now)
                self._replays.everything(list(self._shares.values()))
            case OwnerChanged(device, _):
                self.dispatcher.owner_changed(device, now)
                for share in self._shares.values():
                    self._replays.changed(share, device)
            case Batch():
                self._done(event, now)
            case Indexed(share, messages, whole):
                self._indexed(share, messages, whole)
            case Loaded():
                self._replays.arrived(event, now)

    def _tick(self, now: float) -> None:
        if now - self._ticked_at >= TICK:
            self._ticked_at = now
            self.dispatcher.expire(now)
            self._replays.due(now)
            if self._joined and any(self.links.values()) and all(share.indexed for share in self._shares.values()):
                self.ready.set()

    def _await_topics(self) -> None:
        """Wait until the topics exist. Raises KafkaError where their numbers of partitions differ."""
        for group, topics in self._topics.items():
            await_equal_partitions(self._consumer, [*topics, parked_topic(group)], self._stop)

    # --- records

    def _fetch(self, now: float) -> list[Any]:
        """Take what Kafka has, unless the window is full; wait a little if there is nothing."""
        busy = self.dispatcher.in_flight or self._batch is not None
        if self._full():
            self._wait_for_room(now)
            return []
        self._make_room_known()
        timeout = 0.0 if not self._mailbox.empty() else 0.005 if busy else 0.05
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        return [first, *self._consumer.consume(BATCH, 0)]

    def _full(self) -> bool:
        records = sum(share.pending for share in self._shares.values())
        size = sum(share.pending_bytes for share in self._shares.values())
        return records >= self._settings.sub.window_records or size >= self._settings.sub.window_bytes

    def _wait_for_room(self, now: float) -> None:
        """The window is full: wait for events instead; Kafka is to hear from us all the same."""
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since > 1.0:
            self._consumer.pause(self._consumer.assignment())
            message = self._consumer.poll(0)
            if message is not None:
                self._take(message, now)
        try:
            self._handle(self._mailbox.get(timeout=0.05), now)
        except queue.Empty:
            return

    def _make_room_known(self) -> None:
        if self._full_since is not None:
            self._full_since = None
            for share in self._shares.values():
                if share.indexed:
                    self._consumer.resume(self._partitions(share))

    def _take(self, message: Any, now: float) -> None:
        if message.error() is not None:
            log.warning("Kafka says", extra={"reason": message.error().str()})
            return
        group = self._downlinks.route_for(message.topic())[1]
        share = self._shares.get((group, message.partition()))
        if share is None or not share.indexed or not self.books.take(share, message):
            return  # fetched before a rebalance: it comes again, to whoever has the partition now
        try:
            item = self._item(message)
        except RecordError as error:
            origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
            self.books.bury(share, message, str(error), origin, message.key())
        else:
            self._place(share, item, now)

    def _place(self, share: Share, item: Item, now: float) -> None:
        """Put a new record where it stands in its stream's order: sent, behind what comes back, or parked."""
        command = item.command
        device, name, mark = command.device, item.name, identity(item)
        if mark in share.active or share.delivered(command) or share.index.has(device, name, command.id):
            self.books.duplicate(share, item)
            return
        share.active.add(mark)
        if not share.blocked(device, name):
            stream = share.stream(device, name)
            stream.lane.push(item, now)
            self.dispatcher.send(stream, now)
        elif (device, name) in share.streams and share.index.loaded(device, name):
            share.streams[device, name].behind.append(item)
        else:
            self.books.park(share, name, [item])

    def _item(self, message: Any) -> Item:
        """Raises RecordError for a record that can never be delivered."""
        topic = message.topic()
        route, _ = self._downlinks.route_for(topic)
        return self._made(message, topic, message.key(), route.envelope, route.qos)

    def _parked_item(self, message: Any, name: str) -> Item:
        topic, _, _ = name.partition(",")
        route, _ = self._downlinks.route_for(topic)
        device = (message.key() or b"").partition(b"/")[0]
        item = self._made(message, topic, device, route.envelope, route.qos)
        item.parked, item.name = message.offset(), name
        return item

    def _made(self, message: Any, topic: str, key: bytes | None, envelope: str, qos: int) -> Item:
        value = message.value()
        command = from_record(
            topic,
            message.partition(),
            message.offset(),
            key,
            value,
            message.headers(),
            message.timestamp()[1],
            envelope,
            qos,
        )
        source = DEFAULT_SOURCE if command.source is None else command.source
        link = self._downlinks.link(topic, command.device, source)
        send = Send(_prefix(link.destination, command.qos), command.value)
        size = len(command.value) + len(send.prefix)
        return Item(command, message, f"{topic},{source}", link.destination, send, self._place_of(link), size)

    def _place_of(self, link: Any) -> int:
        return next(i for i, topic in enumerate(self._downlinks.presence_topics) if matches(topic, link.destination))

    def _destination(self, device: str, name: str) -> str:
        topic, _, source = name.partition(",")
        return self._downlinks.link(topic, device, source).destination

    def _bury_parked(self, share: Share, message: Any, reason: str) -> None:
        origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
        device, name, id = parse_parked_key(message.key())
        self.books.bury(share, message, reason, origin, device.encode(), replay=True)
        self.books.tombstone(share, device, name, id)

    # --- what the dispatcher decides

    def delivered(self, stream: Stream, items: Sequence[Item]) -> None:
        share = stream.share
        for item in items:
            share.remember(item.command)
            self._replays.returned(share, item)
            self.books.final(share, item, Outcome.DELIVERED)

    def park(self, stream: Stream, *, retry: bool) -> None:
        share = stream.share
        items = [*stream.lane.drain(), *stream.behind]
        for item in items:
            self._replays.returned(share, item)
        share.index.unload(stream.device, stream.name)
        self.books.park(share, stream.name, [item for item in items if item.parked is None])
        stream.behind.clear()
        share.forget(stream)
        if retry:
            self._replays.later(stream, self._turned_at)

    def move(self, stream: Stream, group: str) -> None:
        head = stream.lane.head
        if head is None or head.command.hops >= self._settings.sub.max_hops:
            self.park(stream, retry=True)
            return
        items = [*stream.lane.drain(), *stream.behind]
        stream.behind.clear()
        for item in items:
            self._replays.returned(stream.share, item)
        route, _ = self._downlinks.route_for(head.command.topic)
        self.books.move(stream.share, items, route, group)
        stream.share.forget(stream)

    def drained(self, stream: Stream) -> None:
        if not stream.behind:
            stream.share.forget(stream)
            self._replays.settled(stream.share, stream.device, stream.name)

    # --- commits

    def _commit(self, now: float) -> None:
        if self._batch is not None:
            return
        writes = any(share.writes for share in self._shares.values())
        if not writes and now - self._committed_at < COMMIT_EVERY:
            return
        batch = self.books.batch(self._shares.values())
        if batch.writes or batch.offsets:
            batch.metadata = self._consumer.consumer_group_metadata()
            self._committed_at = now
            self._batch = batch
            self._commits.submit(batch) if batch.writes else self._commit_offsets(batch)

    def _commit_offsets(self, batch: Batch) -> None:
        """Offsets alone are committed by the consumer itself, and only this thread may use it: confluent-kafka 2.16
        holds others back for as long as this one polls (tried: a commit never happened). The answer comes in a poll;
        while partitions are given up there is none, and it is waited for."""
        commit, offsets = self._consumer.commit, batch.positions()
        try:
            answer = commit(offsets=offsets, asynchronous=False) if self._giving_up else commit(offsets=offsets)
        except KafkaException as error:
            self._offsets_committed(error.args[0], [])
        else:
            if answer is not None:
                self._offsets_committed(None, answer)

    def _offsets_committed(self, error: Any, partitions: Sequence[TopicPartition]) -> None:
        if self._forgotten:  # an answer that was not waited for
            self._forgotten -= 1
            return
        batch = self._batch
        if batch is None or batch.writes:
            return
        error = error or next((partition.error for partition in partitions if partition.error is not None), None)
        if error is not None and error.code() not in REPLACED:
            log.warning("Kafka did not commit, trying again", extra={"reason": error.str()})
        batch.committed = error is None
        self._done(batch, time.monotonic())

    def _done(self, batch: Batch, now: float) -> None:
        self._batch = None
        if not batch.committed:
            self.books.undone(batch)
            return
        self.books.committed(batch)
        for share, write in batch.writes:
            if write.outcome is Outcome.PARKED and share.open:
                self._parked(share, write, now)

    def _parked(self, share: Share, write: Write, now: float) -> None:
        """A record is in the parked topic. Where its stream is going on by now it goes on from memory."""
        item = write.item
        assert item is not None
        command = item.command
        key = device, name = command.device, item.name
        stream = share.streams.get(key)
        next_in_line = stream is not None and share.index.loaded(device, name)
        share.parking[key] -= 1
        share.index.add(device, name, command.id, write.offset, len(write.value or b""))
        if stream is not None and next_in_line:
            item.parked = write.offset
            self._replays.kept(share)
            share.index.load(device, name, write.offset)
            stream.lane.push(item, now)
        if not share.parking[key]:
            del share.parking[key]
            self._follow(stream, now)
        self._replays.parked(share, device)
        if stream is not None:
            self.dispatcher.send(stream, now)

    def _follow(self, stream: Stream | None, now: float) -> None:
        """Nothing before them is on its way into the parked topic: the records that waited for that move up."""
        while stream is not None and stream.behind:
            stream.lane.push(stream.behind.popleft(), now)

    # --- partitions

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        consumer.pause(partitions)
        self._joined = True
        numbers: dict[tuple[str, int], set[str]] = defaultdict(set)
        for partition in partitions:
            numbers[self._downlinks.route_for(partition.topic)[1], partition.partition].add(partition.topic)
        for (group, number), topics in numbers.items():
            if topics == set(self._topics[group]):
                share = self._shares[group, number] = Share(group, number)
                self._backlog.index(share)
            else:
                log.warning("a partition waits until its topics come together", extra={"partition": number})
        log.info("partitions assigned", extra={"partitions": len(partitions)})

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(self._taken_away(partitions))
        log.info("partitions revoked", extra={"partitions": len(partitions)})

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Somebody else has them already: nothing of ours counts any more."""
        for share in self._taken_away(partitions):
            self._close(share)
        log.warning("partitions lost", extra={"partitions": len(partitions)})

    def _taken_away(self, partitions: list[TopicPartition]) -> list[Share]:
        keys = {(self._downlinks.route_for(p.topic)[1], p.partition) for p in partitions}
        return [share for key, share in self._shares.items() if key in keys]

    def _give_up(self, shares: list[Share]) -> None:
        """Finish what is in flight, commit it, and let go."""
        if self._batch is not None and not self._batch.writes:
            self._batch, self._forgotten = None, self._forgotten + 1  # it is committed again
        self._giving_up = True
        try:
            self._finish(shares)
        finally:
            self._giving_up = False
        for share in shares:
            self._close(share)
        self._turned_at = time.monotonic()  # it was waiting, not stopped

    def _finish(self, shares: list[Share]) -> None:
        for share in shares:
            share.closing = True
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while (self.dispatcher.flying(shares) or self._unfinished(shares)) and time.monotonic() < deadline:
            self._commit(time.monotonic())
            try:
                self._handle(self._mailbox.get(timeout=0.05), time.monotonic())
            except queue.Empty:
                continue

    def _unfinished(self, shares: list[Share]) -> bool:
        return self._batch is not None or any(share.writes or any(share.positions()) for share in shares)

    def _close(self, share: Share) -> None:
        share.open = False
        self.dispatcher.close(share)
        self._replays.close(share)
        self._shares.pop(share.key, None)

    def _indexed(self, share: Share, messages: list[Any], whole: bool) -> None:
        if not share.open:
            return
        self._replays.index(share, messages, whole=whole)
        if whole:
            self._consumer.resume(self._partitions(share))

    def _partitions(self, share: Share) -> list[TopicPartition]:
        return [TopicPartition(topic, share.partition) for topic in self._topics[share.group]]


def parked_topic(group: str) -> str:
    """The name of a group's parked topic."""
    return f"{group}.parked"


@lru_cache(65_536)
def _prefix(destination: str, qos: int) -> bytes:
    return send_prefix(destination, qos)
