"""What the tests of the downlink share: settings, records, and fakes of what stands around its streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import Message

from kalinka_jms.config import Broker, Settings
from kalinka_jms.metrics.identity import Scrape, faults, gathered
from kalinka_jms.names import CANARY
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.backlog import Indexed, Loaded
from kalinka_jms.sub.figures import Figures
from kalinka_jms.sub.outlet import LinkDown, LinkUp, Proofs
from kalinka_jms.sub.sends import CanaryReport, Echo, Evidence, Report, Word
from kalinka_jms.sub.share import Share
from kalinka_jms.sub.streams import Streams
from kalinka_jms.testing.registry import FakeRegistry
from kalinka_jms.testing.wire import cut

MQTT, SPARK = "0.mqtt.mqtt", "0.sparkcluster.mqtt"
GROUPS = {"b1": "0", "b2": "0", "far": "1"}
"""Brokers and their groups; `far` is not served."""


def settings(down: Sequence[dict[str, Any]] = (), **sub: Any) -> Settings:
    """The settings of an instance that serves group 0, with these routes or the default ones."""
    brokers = [
        Broker(name=name, stomp=f"stomp://127.0.0.1:{port}", group=group)
        for port, (name, group) in enumerate(GROUPS.items(), 1)
    ]
    return Settings.model_validate(
        {
            "brokers": [broker.model_dump() for broker in brokers],
            "kafka": {"bootstrap.servers": "fake:1"},
            "zookeeper": {"hosts": "fake:1"},
            "sub": {"groups": ["0"], **sub},
            "routes": {"down": down} if down else {},
        }
    )


def record(
    offset: int = 0,
    device: str | bytes | None = "d1",
    value: bytes | None = b"",
    topic: str = MQTT,
    partition: int = 0,
    headers: Iterable[tuple[str, bytes | None]] = (),
    time: int = 1,
) -> Any:
    """A record as Kafka's consumer hands it over; `time` in milliseconds."""
    key = device.encode() if isinstance(device, str) else device
    more: dict[str, Any] = {"headers": list(headers) or None, "timestamp": (1, time)}
    return Message(topic=topic, partition=partition, offset=offset, key=key, value=value, **more)


@dataclass(slots=True)
class Transaction:
    """One transaction as it was written."""

    identity: str
    number: int
    sends: list[tuple[str, bytes]]
    """Destination and payload."""
    places: list[int]
    """The canaries in it."""
    first: int = 1
    """The number of its first send among the connection's messages."""

    def evidence(self, absent: Iterable[int] = (), hidden: Iterable[int] = ()) -> list[Evidence]:
        """What the broker says when nobody received these sends, and somebody the canaries of these places."""
        reports: list[Evidence] = [Report(self.number, index) for index in absent]
        canaries = [CanaryReport(self.number, place) for place in self.places if place not in hidden]
        return [*reports, *canaries, Echo(self.number, self.first + len(self.sends) + len(self.places))]


class FakeOutlet:
    """Keeps what is written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written: list[Transaction] = []
        self._messages: Counter[str] = Counter()
        self.dropped: list[str] = []
        """Identities that were dropped."""
        self.reasons: list[str] = []

    def write(self, identity: str, data: bytes) -> None:
        sends: list[tuple[str, bytes]] = []
        places, numbers = [], set[int]()
        for frame in cut(data):
            tag = frame.header("kn")
            if tag is None:
                continue
            owner, number, index = tag.split(".")
            assert owner == identity
            numbers.add(int(number))
            destination = (frame.header("destination") or "").removeprefix("/topic/")
            if index.startswith("c"):
                assert CANARY in destination
                places.append(int(index[1:]))
            elif index != "e":
                assert int(index) == len(sends)
                sends.append((destination, frame.body))
        (only,) = numbers
        self.written.append(Transaction(identity, only, sends, places, self._messages[identity] + 1))
        self._messages[identity] += len(sends) + len(places) + 1

    def drop(self, identity: str | None, reason: str) -> None:
        if identity:
            self.dropped.append(identity)
        self.reasons.append(reason)


@dataclass(slots=True)
class FakeReader:
    """Keeps what is asked of the parked topic."""

    loads: list[tuple[Share, list[int]]] = field(default_factory=list)
    closed: list[Share] = field(default_factory=list)

    def load(self, share: Share, offsets: Sequence[int]) -> None:
        self.loads.append((share, list(offsets)))

    def close(self, share: Share) -> None:
        self.closed.append(share)


class FakeEnds:
    """Kafka has not told where partitions end."""

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, -1001


class FakeOwners:
    cached = 0


class Bench:
    """Streams with fakes around them, and a Kafka that takes whatever is committed, if it is told to."""

    def __init__(self, down: Sequence[dict[str, Any]] = (), **sub: Any) -> None:
        self.settings = settings(down, **sub)
        self.now = 0.0
        self.born = 1000.0
        """The time of records' timestamps when `now` was 0, in seconds."""
        self.registry = FakeRegistry()
        self.told: list[str] = []
        """Devices whose changes wait in the mailbox."""
        self.owners = self.registry.owners(lambda device, _: self.told.append(device))
        self.outlets = {name: FakeOutlet(name) for name, group in GROUPS.items() if group == "0"}
        self.reader = FakeReader()
        downlinks = Downlinks(self.settings.routes.down, ("0",))
        self.streams = Streams(
            self.settings,
            downlinks,
            self.outlets,  # type: ignore[arg-type]
            self.owners,
            self.reader,
            0.0,
            lambda: self.born + self.now,
        )
        self.books, self.dispatcher, self.replays = self.streams.books, self.streams.dispatcher, self.streams.replays
        self.figures = Figures(downlinks, FakeEnds(), FakeOwners())  # type: ignore[arg-type]
        self.shares: list[Share] = []
        self.log: dict[tuple[str, int], list[Any]] = {}
        """Topic and partition → messages; a list index is an offset."""
        self._links = 0

    # --- events

    def up(self, *brokers: str) -> None:
        for broker in brokers:
            self._links += 1
            self.streams.event(LinkUp(broker, f"{broker}-{self._links}"), self.shares, self.now)
        self.settle()

    def down(self, broker: str, identity: str | None = None) -> None:
        written = self.outlets[broker].written
        name = identity or (written[-1].identity if written else f"{broker}-{self._links}")
        self.streams.event(LinkDown(broker, name, "test"), self.shares, self.now)
        self.settle()

    def listens(self, device: str, broker: str, *filters: str, clean: bool = True) -> None:
        """The registry says that a device listens at a broker, last of all."""
        self.registry.listen(device, broker, *filters, clean=clean)
        self.tell()

    def left(self, device: str, broker: str) -> None:
        """The registry says that it does not any more."""
        self.registry.leave(device, broker)
        self.tell()

    def tell(self) -> None:
        while self.told:
            self.streams.owner_changed(self.told.pop(0), self.shares, self.now)
        self.settle()

    def settle(self) -> None:
        """What a turn does without events."""
        while self.replays.busy:
            self.replays.look()
        self.dispatcher.pump(self.now)

    def prove(self, broker: str, absent: Iterable[int] = (), hidden: Iterable[int] = ()) -> Transaction:
        """The oldest transaction written to a broker goes through."""
        transaction = self.outlets[broker].written.pop(0)
        proofs = Proofs(broker, transaction.identity, transaction.evidence(absent, hidden))
        self.streams.event(proofs, self.shares, self.now)
        self.settle()
        return transaction

    def say(self, transaction: Transaction, *words: Word, broker: str = "b1") -> None:
        """A broker says something of messages; their numbers count from the transaction's first, 0."""
        said: list[Evidence] = [replace(word, message=transaction.first + word.message) for word in words]
        self.streams.event(Proofs(broker, transaction.identity, said), self.shares, self.now)
        self.settle()

    def consumers(self, device: str, broker: str = "b1") -> list[str]:
        """The ids of a device's consumers there, as the registry has them."""
        entry = self.registry.entries.get(device)
        part = entry.part(broker) if entry else None
        return [filter.consumer for filter in part.filters] if part else []

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.streams.tick(self.shares, self.now)
        self.settle()

    # --- Kafka

    def open(self, partition: int = 0, parked: Iterable[tuple[int, bytes, int | None]] = (), time: int = 1) -> Share:
        """A partition is assigned, with these parked records (offset, key, bytes), all of that time."""
        share = Share("0", partition)
        self.shares.append(share)
        self.streams.read(Indexed(share, [(*record, time) for record in parked], True), self.now)
        self.settle()
        return share

    def close(self, share: Share) -> None:
        """A partition is taken away."""
        self.shares.remove(share)
        self.streams.close(share)

    def take(self, *messages: Any) -> None:
        for message in messages:
            (share,) = (share for share in self.shares if share.partition == message.partition())
            self.streams.take(share, [message], self.now)
        self.settle()

    def commit(self, *, succeeds: bool = True) -> Any:
        """One batch goes to Kafka and comes back."""
        batch = self.books.batch(self.shares)
        batch.committed = succeeds
        if succeeds:
            for _, write in batch.writes:
                write.offset = self.append(write)
        self.streams.done(batch, self.now)
        self.settle()
        return batch

    def append(self, write: Any) -> int:
        log = self.log.setdefault((write.topic, max(write.partition, 0)), [])
        time = write.timestamp or int((self.born + self.now) * 1000)
        log.append(record(len(log), write.key, write.value, write.topic, max(write.partition, 0), write.headers, time))
        return len(log) - 1

    def load(self) -> None:
        """Everything that was asked of the parked topic comes."""
        while self.reader.loads:
            share, offsets = self.reader.loads.pop(0)
            for offset in offsets:
                message = self.log["0.parked", share.partition][offset]
                self.streams.read(Loaded(share, offset, message), self.now)
        self.settle()

    def sent(self, broker: str) -> list[bytes]:
        """The payloads that are in flight at a broker, in order."""
        return [payload for transaction in self.outlets[broker].written for _, payload in transaction.sends]

    def scrape(self) -> Scrape:
        """What a scrape would show now."""
        self.figures.state(self.streams, self.shares, self.now)
        return gathered(self.figures.samples())

    def balanced(self) -> bool:
        """Whether every record that was taken is somewhere, and the metrics say so."""
        pending = sum(share.pending for share in self.shares)
        assert faults(self.scrape()) == []
        return self.books.taken == sum(self.books.outcomes.values()) + pending + self.books.given_back
