"""The metrics of `kalinka sub`: the thread that owns its state makes a statement, others read the last one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.buckets import EMPTY, Histogram
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.registry import Owners
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.outcomes import Books
from kalinka_jms.sub.share import Outcome, Share
from kalinka_jms.sub.streams import Streams

LAG = 5.0
"""Seconds between looks at how far behind Kafka's end it is."""

Lag = dict[tuple[str, int], int]
"""Topic and partition → records without a final outcome."""


@dataclass(frozen=True, slots=True)
class TopicStatement:
    """One topic."""

    topic: str
    taken: int
    given_back: int
    in_flight: int
    outcomes: dict[Outcome, Histogram]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is parked for the devices of one group, in the partitions of this instance."""

    partitions: int = 0
    records: int = 0
    bytes: int = 0
    devices: int = 0

    def plus(self, share: Share) -> Waiting:
        """With those of a share."""
        index = share.index
        return Waiting(
            self.partitions + 1,
            self.records + index.count,
            self.bytes + index.bytes,
            self.devices + index.device_count,
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """All of one moment; nothing in it changes any more."""

    topics: tuple[TopicStatement, ...] = ()
    bytes: int = 0
    replayed: Mapping[Outcome, int] | None = None
    late: Mapping[str, int] | None = None
    loaded: int = 0
    transactions: int = 0
    unconfirmed: int = 0
    left_behind: int = 0
    parked: Mapping[str, Waiting] | None = None
    hidden: Mapping[str, int] | None = None
    links: Mapping[str, bool] | None = None


class Figures:
    """The last statement, and what else is to be read from other threads."""

    def __init__(self, downlinks: Downlinks, consumer: Any, owners: Owners) -> None:
        routed = ((topic, downlinks.route_for(topic)) for topic in downlinks.topics)
        self._routes = {topic: (group, route.from_) for topic, (route, group) in routed}
        self.consumer = consumer
        self._owners = owners
        self._statement = Statement()
        self._lag: Lag = {}
        self._lagged_at = float("-inf")

    def state(self, streams: Streams, shares: Sequence[Share], now: float) -> None:
        """Make a statement, by the thread that owns all of it, between two steps."""
        dispatcher = streams.dispatcher
        self._statement = statement(
            self._routes,
            streams.books,
            shares,
            loaded=streams.replays.loaded,
            transactions=dispatcher.in_flight,
            unconfirmed=dispatcher.unconfirmed,
            left_behind=dispatcher.left_behind,
            late=dispatcher.late_copies,
            hidden=dispatcher.hidden,
            links=dispatcher.links,
        )
        if now - self._lagged_at >= LAG:
            self._lag, self._lagged_at = lag(self.consumer, shares), now

    def samples(self) -> Iterator[Sample]:
        """The metrics; from any thread."""
        yield from samples(self._statement, self._lag, self._routes)
        yield Sample(catalogue.OWNERS, (), self._owners.cached)


def statement(topics: Iterable[str], books: Books, shares: Sequence[Share], **more: Any) -> Statement:
    """The statement of this moment, by the thread that owns all of it; `topics` are shown, used or not."""
    held: Counter[str] = Counter()
    parked: defaultdict[str, Waiting] = defaultdict(Waiting)
    for share in shares:
        held.update(share.held)
        parked[share.group] = parked[share.group].plus(share)
    accounts = books.accounts.topics
    return Statement(
        topics=tuple(_topic(name, accounts[name], held[name]) for name in dict.fromkeys((*topics, *accounts))),
        bytes=sum(share.pending_bytes for share in shares),
        replayed=dict(books.replayed),
        parked=dict(parked),
        **more,
    )


def _topic(name: str, account: Any, in_flight: int) -> TopicStatement:
    outcomes = {outcome: buckets.copy() for outcome, buckets in account.ages.items()}
    return TopicStatement(name, account.taken, account.given_back, in_flight, outcomes)


def lag(consumer: Any, shares: Sequence[Share]) -> Lag:
    """What is behind, of partitions of which Kafka has told the end; asks nobody."""
    found: Lag = {}
    for share in shares:
        for topic, position in share.positions():
            try:
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, share.partition), cached=True)
            except KafkaException:
                continue  # nothing was fetched yet
            if end >= 0:
                found[topic, share.partition] = max(end - position, 0)
    return found


def samples(said: Statement, lags: Lag, routes: Mapping[str, tuple[str, str]]) -> Iterator[Sample]:
    """What a statement says; `routes`: topic → group and the `from` of its route."""
    difference = 0
    for one in said.topics:
        yield from _topic_samples(one, routes[one.topic])
        settled = sum(histogram.count for histogram in one.outcomes.values())
        difference += abs(one.taken - settled - one.given_back - one.in_flight)
    yield Sample(catalogue.DIFFERENCE, ("down",), difference)
    yield Sample(catalogue.DOWN_BYTES, (), said.bytes)
    yield Sample(catalogue.LOADED, (), said.loaded)
    yield Sample(catalogue.TRANSACTIONS, (), said.transactions)
    yield Sample(catalogue.UNCONFIRMED, (), said.unconfirmed)
    yield Sample(catalogue.LEFT_BEHIND, (), said.left_behind)
    for outcome in Outcome:
        if outcome is not Outcome.PARKED:  # a parked record that is parked again has stayed where it was
            yield Sample(catalogue.REPLAYED, (outcome.value,), (said.replayed or {}).get(outcome, 0))
    yield from _brokers(said)
    yield from _parked(said, sorted({group for group, _ in routes.values()}))
    for (topic, partition), records in lags.items():
        yield Sample(catalogue.DOWN_LAG, (topic, str(partition)), records)


def _topic_samples(one: TopicStatement, labels: tuple[str, str]) -> Iterator[Sample]:
    yield Sample(catalogue.TAKEN, labels, one.taken)
    for outcome in Outcome:
        histogram = one.outcomes.get(outcome, EMPTY)
        yield Sample(catalogue.DOWN, (*labels, outcome.value), histogram.count)
        if histogram.count:
            yield Sample(catalogue.DOWN_SECONDS, (*labels, outcome.value), histogram)
    yield Sample(catalogue.DOWN_GIVEN_BACK, labels, one.given_back)
    yield Sample(catalogue.DOWN_IN_FLIGHT, labels, one.in_flight)


def _brokers(said: Statement) -> Iterator[Sample]:
    for broker, up in (said.links or {}).items():
        yield Sample(catalogue.LINK, ("sub", broker), up)
        yield Sample(catalogue.HIDDEN, (broker,), (said.hidden or {}).get(broker, 0))
        yield Sample(catalogue.LATE, (broker,), (said.late or {}).get(broker, 0))


def _parked(said: Statement, groups: Sequence[str]) -> Iterator[Sample]:
    for group in groups:
        waiting = (said.parked or {}).get(group, Waiting())
        yield Sample(catalogue.PARTITIONS, (group,), waiting.partitions)
        yield Sample(catalogue.PARKED, (group,), waiting.records)
        yield Sample(catalogue.PARKED_BYTES, (group,), waiting.bytes)
        yield Sample(catalogue.PARKED_DEVICES, (group,), waiting.devices)
