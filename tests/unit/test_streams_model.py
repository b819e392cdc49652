"""The whole downlink but for its threads, against brokers, a Kafka and a registry that do what they like.

Devices come, go and move; the registry knows late; links break, with what was sent arriving or not, and sometimes much
later; batches are refused; records are too large to be parked; partitions are taken away and given back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any
from unittest.mock import patch

from downlink import GROUPS, MQTT, SPARK, Bench, Transaction, record
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kalinka_jms.sub.backlog import Indexed, Loaded
from kalinka_jms.sub.commits import Batch
from kalinka_jms.sub.outlet import LinkDown, LinkUp, Proofs
from kalinka_jms.sub.parked import ParkedIndex, drop_key
from kalinka_jms.sub.share import Share, State, Window

DEVICES, SOURCES, TOPICS, PARTITIONS = ("d1", "d2"), (b"s", b"t"), (MQTT, SPARK), (0, 1)
SERVED = ("b1", "b2")
BOUNDS = {
    "kalinka_jms.sub.outcomes": {"BATCH_RECORDS": 5},
    "kalinka_jms.sub.replays": {"CHUNK": 3, "LOADED": 4, "LOOKS": 2},
}
"""Small ones, so that they are met."""
STEPS = ("fetch", "pump", "read", "tell", "load", "submit", "answer")

Key = tuple[str, str, str]
"""Device, topic and source (of the route that has one): one stream."""


class Model(RuleBasedStateMachine):
    """`records` is what was produced; everything else is found out from what the fakes saw."""

    TTL: float | None = None
    MOST: int | None = None
    """`ttl` and `max_parked`."""
    DOWN: Sequence[dict[str, Any]] = ()
    """The routes, where they are not the default ones."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds = ExitStack()
        for module, bounds in BOUNDS.items():
            self.bounds.enter_context(patch.multiple(module, **bounds))
        limits = {"ttl": self.TTL, "max_parked": self.MOST}
        self.bench = Bench(down=self.DOWN, transaction=3, transactions_in_flight=2, max_hops=2, **limits)
        self.streams, self.books = self.bench.streams, self.bench.books
        self.records: dict[tuple[str, int], list[Any]] = {(t, p): [] for t in TOPICS for p in PARTITIONS}
        self.large: set[bytes] = set()
        """Values that Kafka refuses in any topic but the dead letters'."""
        self.positions: dict[tuple[str, int], int] = {}
        self.committed: dict[tuple[str, int], int] = dict.fromkeys(self.records, 0)
        self.present: set[tuple[str, str]] = set()
        """Device and broker where it really listens."""
        self.received: dict[str, list[bytes]] = {device: [] for device in DEVICES}
        self.groups: dict[str, set[str]] = {device: set() for device in DEVICES}
        """Those that the registry has named for a device, ever."""
        self.identities: dict[str, str] = {}
        self.lines: dict[str, list[Transaction]] = {broker: [] for broker in SERVED}
        """What was written on each connection and the broker has not read yet; also on connections that are gone."""
        self.left: dict[int, tuple[ParkedIndex | None, Window | None]] = {}
        """What is known of partitions that were taken away."""
        self.dropped: set[bytes | None] = set()
        self.batch: Batch | None = None
        self.numbers = count()

    @initialize(known=st.booleans(), brokers=st.lists(st.sampled_from(sorted(GROUPS)), min_size=2, max_size=2))
    def begin(self, known: bool, brokers: list[str]) -> None:
        """Everything is well; what may go wrong follows."""
        for broker in SERVED:
            self.link_up(broker)
        for device, broker in zip(DEVICES, brokers, strict=True):
            self.subscribe(device, broker, known)
        for partition in PARTITIONS:
            self.assign(partition, known=False)
            self.index(partition)

    @rule(steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=30))
    def work(self, steps: list[str]) -> None:
        """What goes on when nothing goes wrong, in any order, as far as it comes."""
        for step in steps:
            match step:
                case "fetch":
                    for partition in PARTITIONS:
                        for topic in TOPICS:
                            self.fetch(partition, topic, 4)
                case "read":
                    for broker in SERVED:
                        self.read(broker, gone_after=99, hidden=False, heard=True)
                case "load":
                    self.load(5)
                case "answer":
                    self.answer(True)
                case _:
                    getattr(self, step)()

    # --- what happens outside

    @rule(
        device=st.sampled_from(DEVICES),
        topic=st.sampled_from(TOPICS),
        source=st.sampled_from(SOURCES),
        sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    )
    def produce(self, device: str, topic: str, source: bytes, sizes: list[int]) -> None:
        for size in sizes:
            self._produce(device, topic, source, b"%d" % next(self.numbers), large=size == 9)

    @rule(data=st.data())
    def produce_again(self, data: st.DataObject) -> None:
        """A duplicate, in the partition of the first."""
        topic, partition = data.draw(st.sampled_from(sorted(self.records)))
        if log := self.records[topic, partition]:
            first = data.draw(st.sampled_from(log))
            headers, time = first.headers() or (), first.timestamp()[1]
            log.append(record(len(log), first.key(), first.value(), topic, partition, headers, time))

    @rule(topic=st.sampled_from(TOPICS[:1]), partition=st.sampled_from(PARTITIONS[:1]))
    def produce_poison(self, topic: str, partition: int) -> None:
        log = self.records[topic, partition]
        log.append(record(len(log), "a,b", b"%d" % next(self.numbers), topic, partition))

    @rule(device=st.sampled_from(DEVICES), broker=st.sampled_from(sorted(GROUPS)), known=st.booleans())
    def subscribe(self, device: str, broker: str, known: bool) -> None:
        self.present.add((device, broker))
        if known:
            self.register(device)

    @rule(device=st.sampled_from(DEVICES), broker=st.sampled_from(sorted(GROUPS)), known=st.booleans())
    def leave(self, device: str, broker: str, known: bool) -> None:
        self.present.discard((device, broker))
        if known:
            self.register(device)

    @rule(device=st.sampled_from(DEVICES))
    def register(self, device: str) -> None:
        """The registry learns where the device listens; it is told to the streams in `tell`."""
        entry = self.bench.registry.entries.get(device)
        for broker in GROUPS:
            listed = entry is not None and broker in entry.brokers
            if (device, broker) in self.present and not listed:
                self.bench.registry.listen(device, broker)
                self.groups[device].add(GROUPS[broker])
            elif (device, broker) not in self.present and listed:
                self.bench.registry.leave(device, broker)

    @rule()
    def tell(self) -> None:
        for device in self._pop(self.bench.told, len(self.bench.told)):
            self.streams.owner_changed(device, self.bench.shares, self.bench.now)

    @rule(device=st.sampled_from(DEVICES))
    def evict(self, device: str) -> None:
        """The cache lets go of a device that is not pinned: nothing more of it is told."""
        if device not in self.bench.owners.pinned:
            self.bench.owners._shown.pop(device, None)

    @rule(away=st.booleans())
    def zookeeper(self, away: bool) -> None:
        if away:
            self.bench.owners.forget_to_ask()
        else:
            self.bench.owners.learn()

    @rule(seconds=st.sampled_from((0.3, 3.0, 11.0)))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds
        self.streams.tick(self.bench.shares, self.bench.now)
        self._written()

    # --- links

    @rule(broker=st.sampled_from(SERVED))
    def link_up(self, broker: str) -> None:
        self.identities[broker] = f"{broker}-{next(self.numbers)}"
        self.streams.event(LinkUp(broker, self.identities[broker]), self.bench.shares, self.bench.now)

    @rule(broker=st.sampled_from(SERVED), late=st.booleans())
    def link_down(self, broker: str, late: bool) -> None:
        """Late: what was written is read all the same, some time."""
        if not late:
            self.lines[broker].clear()
        if broker in self.identities:
            self.streams.event(LinkDown(broker, self.identities.pop(broker), ""), self.bench.shares, self.bench.now)

    @rule()
    def pump(self) -> None:
        self.streams.replays.look()
        self.streams.dispatcher.pump(self.bench.now)
        self._written()

    @rule(broker=st.sampled_from(SERVED), gone_after=st.integers(0, 4), hidden=st.booleans(), heard=st.booleans())
    def read(self, broker: str, gone_after: int, hidden: bool, heard: bool) -> None:
        """The broker reads a transaction. A device may leave in the middle of it; the evidence may be lost."""
        if not self.lines[broker]:
            return
        transaction, absent = self.lines[broker].pop(0), []
        for index, (destination, payload) in enumerate(transaction.sends):
            device = destination.split(".")[-2]
            if index == gone_after:
                self.leave(device, broker, known=hidden)  # or nobody could tell
            if (device, broker) in self.present:
                self.received[device].append(payload)
            else:
                absent.append(index)
        trusted = all(self._listed(destination.split(".")[-2], broker) for destination, _ in transaction.sends)
        evidence = transaction.evidence([] if hidden and trusted else absent, transaction.places if hidden else ())
        if hidden and trusted and absent:
            return  # as where the registry has not heard of it yet: `guarantees` says so
        if heard:
            self.streams.event(Proofs(broker, transaction.identity, evidence), self.bench.shares, self.bench.now)

    # --- Kafka

    @rule(partition=st.sampled_from(PARTITIONS), known=st.booleans())
    def assign(self, partition: int, known: bool) -> None:
        """Given back: known from before, or to another process."""
        if all(share.partition != partition for share in self.bench.shares):
            index, window = self.left.pop(partition, (None, None)) if known else (None, None)
            self.bench.shares.append(Share("0", partition, index, window))
            for topic in TOPICS:
                self.positions[topic, partition] = self.committed[topic, partition]

    @rule(partition=st.sampled_from(PARTITIONS))
    def index(self, partition: int) -> None:
        for share in self._shares(partition):
            if not share.indexed:
                log = self.bench.log.get(("0.parked", partition), [])[share.index.position :]
                found = [
                    (m.offset(), m.key(), None if m.value() is None else len(m.value()), m.timestamp()[1]) for m in log
                ]
                self.streams.read(Indexed(share, found, True), self.bench.now)

    @rule(partition=st.sampled_from(PARTITIONS), orderly=st.booleans())
    def revoke(self, partition: int, orderly: bool) -> None:
        for share in self._shares(partition):
            if orderly:
                share.closing = True
            else:
                self.close(share)

    def close(self, share: Share) -> None:
        self.left[share.partition] = share.leave_index(), share.window
        self.bench.close(share)

    @rule(partition=st.sampled_from(PARTITIONS), topic=st.sampled_from(TOPICS), records=st.integers(1, 6))
    def fetch(self, partition: int, topic: str, records: int) -> None:
        for share in self._shares(partition):
            if share.indexed and not share.closing:
                start = self.positions[topic, partition]
                if run := self.records[topic, partition][start : start + records]:
                    self.positions[topic, partition] += len(run)
                    self.streams.take(share, run, self.bench.now)

    @rule(limit=st.integers(1, 9))
    def load(self, limit: int) -> None:
        loads, self.bench.reader.loads = self.bench.reader.loads, []
        for share, offsets in loads:
            for offset in offsets[:limit]:
                message = self.bench.log["0.parked", share.partition][offset]
                self.streams.read(Loaded(share, offset, message), self.bench.now)
            if offsets[limit:]:
                self.bench.reader.loads.append((share, offsets[limit:]))

    @rule()
    def submit(self) -> None:
        if self.batch is None:
            self.batch = self.books.batch(self.bench.shares)

    @rule(taken=st.booleans())
    def answer(self, taken: bool) -> None:
        """Kafka takes the batch or refuses it; some records it can never take; one of a closed share is refused."""
        batch, self.batch = self.batch, None
        if batch is None:
            return
        for _, write in batch.writes:
            if write.value in self.large and write.topic != "kalinka.dead":
                write.refused, taken = "too large", False
        batch.committed = taken and all(share.open for share, *_ in (*batch.writes, *batch.offsets))
        if batch.committed:
            assert batch.offsets or not batch.writes, "the group has to be asked"
            for _, write in batch.writes:
                write.offset = self.bench.append(write)
            for share, topic, offset in batch.offsets:
                if topic == "0.parked":  # only for the group to object to
                    continue
                assert offset >= self.committed[topic, share.partition]
                self.committed[topic, share.partition] = offset
        self.streams.done(batch, self.bench.now)

    # --- what must hold

    @invariant()
    def every_record_is_somewhere(self) -> None:
        assert self.bench.balanced()
        for share in self.bench.shares:
            fresh = [item for item in _items(share) if item.parked is None]
            writes = [*share.writes, *self._under_way(share)]
            first = [write for write in writes if write.outcome and not write.replay]
            assert share.pending == len(fresh) + len(first)
            assert share.pending_bytes == sum(
                _size(message) for message in [i.message for i in fresh] + [w.message for w in first]
            )
            assert Counter(share.parking) == Counter(write.stream for write in writes if write.stream)
            assert share.active == {item.mark for item in (*fresh, *(write.item for write in writes if write.item))}
            back = [item for item in _items(share) if item.parked is not None]
            assert share.replaying == len(back) + sum(len(chunk.wanted) for chunk in share.loading.values())
            assert all(set(chunk.wanted) - set(chunk.found) <= set(share.wanted) for chunk in share.loading.values())
            assert share.pinned >= share.index.devices() or not share.indexed or share in self.streams.replays._looks
        assert self.streams.replays.loaded == sum(share.replaying for share in self.bench.shares)
        assert self.streams.replays.loaded_bytes == sum(share.replaying_bytes for share in self.bench.shares)
        assert self.bench.owners.pinned == set().union(*(share.pinned for share in self.bench.shares))

    @invariant()
    def nothing_is_held_of_a_share_that_ended(self) -> None:
        replays, dispatcher = self.streams.replays, self.streams.dispatcher
        keys = [*replays._queue, *replays._delays, *replays._timers, *(key for _, _, key in replays._due)]
        held = [key[0] for key in keys] + [*replays._looks]
        held += [stream.share for streams in dispatcher._waiting.values() for stream in streams]
        held += [stream.share for port in dispatcher._ports.values() for stream in port.ready]
        assert all(share.open for share in held)

    @invariant()
    def a_stream_is_in_one_place(self) -> None:
        dispatcher = self.streams.dispatcher
        flying = [stream for port in dispatcher._ports.values() for stream in port.flying()]
        ready = [stream for port in dispatcher._ports.values() for stream in dict.fromkeys(port.ready)]
        waiting = [stream for streams in dispatcher._waiting.values() for stream in streams]
        for state, streams in ((State.FLYING, flying), (State.READY, ready), (State.WAITING, waiting)):
            assert len(set(streams)) == len(streams) and all(stream.state is state for stream in streams)
        for stream in (*flying, *ready, *waiting):
            assert not stream.share.open or stream.share.streams[stream.device, stream.name] is stream
        for share in self.bench.shares:
            assert share.closing or all(len(stream.lane) or stream.behind for stream in share.streams.values())

    @invariant()
    def nothing_that_is_committed_is_lost(self) -> None:
        parked = self._parked()
        kept = parked | {
            m.value()
            for log in ("kalinka.dead", "1.mqtt.mqtt", "1.sparkcluster.mqtt")
            for m in self.bench.log.get((log, 0), [])
        }
        for place, offset in self.committed.items():
            for message in self.records[place][:offset]:
                received = self.received.get((message.key() or b"").decode(), [])
                assert message.value() in kept or message.value() in received or self._may_expire(message)

    def _may_expire(self, message: Any) -> bool:
        """Whether its time has run out, or so many of its route came later that there is no room for it.

        What comes from several sources is parked in any order.
        """
        newer = {
            other.value()
            for other in self.records[message.topic(), message.partition()]
            if other.key() == message.key()
            and (other.offset() > message.offset() or other.headers() != message.headers())
        }
        return (
            self._old(message)
            or message.value() in self.dropped
            or (self.MOST is not None and len(newer - {message.value()}) >= self.MOST)
        )

    def _astray(self) -> set[bytes]:
        """Values with a copy whose first one may be gone (expired, dropped): then the copy has a place of its own."""
        gone = [message for log in self.records.values() for message in log if self._may_expire(message)]
        copies = Counter(message.value() for log in self.records.values() for message in log)
        return {message.value() for message in gone if copies[message.value()] > 1}

    def _old(self, message: Any) -> bool:
        return self.TTL is not None and message.timestamp()[1] / 1000 + self.TTL <= self._wall()

    def _wall(self) -> float:
        return self.bench.born + self.bench.now

    @invariant()
    def first_occurrences_are_in_order(self) -> None:
        """But for a device that goes to another group and comes back: what was handed over comes back later."""
        topics = ("1.mqtt.mqtt", "1.sparkcluster.mqtt")
        moved = [message.value() for topic in topics for message in self.bench.log.get((topic, 0), [])]
        for (device, *_), values in self._streams().items():
            for seen in (self.received[device], moved) if len(self.groups[device]) < 2 else ():
                firsts = [value for value in dict.fromkeys(seen) if value in values - self._astray()]
                assert firsts == sorted(firsts, key=int)

    def teardown(self) -> None:
        with self.bounds:
            self._heal()

    # --- inside

    def _heal(self) -> None:
        """Everything heals: every record reaches its device, or is kept where it belongs."""
        for device in DEVICES:
            for broker in GROUPS:
                self.leave(device, broker, known=False)
            self.subscribe(device, "far" if self.groups[device] == {"1"} else "b1", known=True)
        self.zookeeper(False)
        for broker in SERVED:
            self.link_up(broker)
        for partition in PARTITIONS:
            for share in self._shares(partition):
                if share.closing:
                    self.close(share)
            self.assign(partition, known=True)
        for _ in range(200):
            self._turn()
            if self._quiet():
                break
        self.every_record_is_somewhere()
        self.first_occurrences_are_in_order()
        self.nothing_that_is_committed_is_lost()
        assert self._quiet(), "something stands still"

    def _produce(self, device: str, topic: str, source: bytes, value: bytes, large: bool) -> None:
        partition = int(value) % 2 if source == b"t" and topic == MQTT else 0
        log = self.records[topic, partition]
        if large:
            self.large.add(value)
        headers = [("kalinka.source", source), ("kalinka.id", b"id" + value)]
        log.append(record(len(log), device, value, topic, partition, headers, int(self._wall() * 1000)))

    def _turn(self) -> None:
        for partition in PARTITIONS:
            self.index(partition)
            for topic in TOPICS:
                self.fetch(partition, topic, 100)
        self.tell()
        self.wait(3.0)
        self.pump()
        for broker in SERVED:
            while self.lines[broker]:
                self.read(broker, gone_after=99, hidden=False, heard=True)
        self.load(100)
        self.answer(True)
        self.submit()
        self.answer(True)

    def _quiet(self) -> bool:
        ends = {place: len(log) for place, log in self.records.items() if log}
        everything = all(self.committed[place] == end for place, end in ends.items())
        idle = not any(s.pending or s.writes or s.index.count or s.streams or s.pinned for s in self.bench.shares)
        return everything and idle and not self.books.refused and not self._parked()

    def _parked(self) -> set[bytes]:
        """Values that the parked topic shows, as compaction would leave it."""
        shown: dict[tuple[int, bytes], bytes | None] = {}
        for partition in PARTITIONS:
            for message in self.bench.log.get(("0.parked", partition), []):
                shown[partition, message.key()] = message.value()
        return {value for value in shown.values() if value is not None}

    def _streams(self) -> dict[Key, set[bytes]]:
        """The values of each stream. Those of one stream in several partitions are streams of their own."""
        found: dict[Any, set[bytes]] = {}
        for (topic, partition), log in self.records.items():
            for message in log:
                if message.key() != b"a,b":
                    source = dict(message.headers())["kalinka.source"] if topic == MQTT else b""
                    found.setdefault((message.key().decode(), topic, source, partition), set()).add(message.value())
        return found

    def _shares(self, partition: int) -> list[Share]:
        return [share for share in self.bench.shares if share.partition == partition]

    def _under_way(self, share: Share) -> list[Any]:
        """Writes that a batch has taken and Kafka does not have."""
        batches = (*(self.batch.writes if self.batch else ()), *self.books._again)
        return [write for owner, write in batches if owner is share]

    def _written(self) -> None:
        for broker, outlet in self.bench.outlets.items():
            self._assert_fresh(outlet.written)
            self.lines[broker] += self._pop(outlet.written, len(outlet.written))
            for identity in self._pop(outlet.dropped, len(outlet.dropped)):
                if self.identities.get(broker) == identity:
                    del self.identities[broker]

    def _assert_fresh(self, written: list[Transaction]) -> None:
        """What was written just now was not too old."""
        if self.TTL is not None:
            values = {payload for transaction in written for _, payload in transaction.sends}
            assert not any(self._old(m) for log in self.records.values() for m in log if m.value() in values)

    def _listed(self, device: str, broker: str) -> bool:
        entry = self.bench.registry.entries.get(device)
        return entry is not None and broker in entry.brokers

    @staticmethod
    def _pop(things: list[Any], number: int) -> list[Any]:
        popped = things[:number]
        del things[:number]
        return popped


def _items(share: Share) -> list[Any]:
    return [item for stream in share.streams.values() for item in (*stream.lane._items, *stream.behind)]


def _size(message: Any) -> int:
    return len(message.value() or b"") + len(message.key() or b"") + 100


class LimitedModel(Model):
    """Records run out of time, and there is little room for what is parked."""

    TTL, MOST = 12.0, 4

    @rule(device=st.sampled_from(DEVICES), partition=st.sampled_from(PARTITIONS))
    def drop(self, device: str, partition: int) -> None:
        """Somebody asks to drop what is parked; an instance hears of it when it has the partition."""
        log = self.bench.log.setdefault(("0.parked", partition), [])
        self.dropped |= {one.value() for one in log if (one.key() or b"").startswith(f"{device}/".encode())}
        log.append(record(len(log), drop_key(device), b"drop", "0.parked", partition))
        for share in self._shares(partition):
            if share.indexed:  # else it is read with the rest
                self.streams.dropped(share, device, len(log) - 1)


TestStreams = Model.TestCase
TestStreams.settings = hypothesis_settings(max_examples=60, stateful_step_count=80, deadline=None)
TestLimitedStreams = LimitedModel.TestCase
TestLimitedStreams.settings = hypothesis_settings(max_examples=40, stateful_step_count=60, deadline=None)
