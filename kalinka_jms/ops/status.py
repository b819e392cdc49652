"""The state of a running installation: asked of ZooKeeper, Kafka, the brokers and the instances, all at the same time.

Each answer has a bound in time, and one that does not come is a sentence, not the end of the others.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import TypeVar

from kalinka_jms.config import Broker, Settings
from kalinka_jms.errors import KalinkaError, LinkError, RegistryError
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.identity import faults, read, summed
from kalinka_jms.ops.cluster import Cluster, GroupState, Place
from kalinka_jms.ops.committed import Committed
from kalinka_jms.ops.fleet import BrokerView, Fleet
from kalinka_jms.ops.topics import Topic, wanted
from kalinka_jms.registry import connect
from kalinka_jms.registry.beacon import addresses as addresses_of
from kalinka_jms.stomp.link import Link

ANSWER = 5.0
"""Seconds for one answer of Kafka, of ZooKeeper's first one, and of an instance."""

WORKERS = 16
"""Servers and instances that are asked at the same time."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class TopicView:
    """One Kafka topic: its records (those that compaction or transactions took count, too)."""

    name: str
    purpose: str
    records: int
    behind: int | None
    """Records that `kalinka sub` has not finished; None for a topic that it does not read."""


@dataclass(frozen=True, slots=True)
class KafkaView:
    """What Kafka says."""

    group: GroupState
    topics: tuple[TopicView, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceView:
    """What an instance says of itself; `error` where it does not answer."""

    address: str
    error: str = ""
    ready: tuple[tuple[str, bool], ...] = ()
    """Service → whether it is ready."""
    healthy: bool = False
    links_down: tuple[str, ...] = ()
    in_flight_up: int = 0
    in_flight_down: int = 0
    lag: float = 0.0
    """Seconds since the broker accepted the oldest message in flight."""
    parked: int = 0
    faults: tuple[str, ...] = ()
    """What is wrong with its ledger."""


@dataclass(frozen=True, slots=True)
class Installation:
    """All of it. Where a server did not answer its part is None, or the broker's text is not empty."""

    brokers: tuple[BrokerView, ...] | None
    kafka: KafkaView | None
    links: tuple[tuple[str, str], ...]
    """Broker → why no link to it can be made; an empty text where it can."""
    instances: tuple[InstanceView, ...]
    away: tuple[str, ...]
    """One sentence for each server that did not answer."""


def look(settings: Settings, addresses: Sequence[str] = ()) -> Installation:
    """Ask everybody; `addresses`: HOST:PORT of metrics, beside those that instances tell in ZooKeeper. Takes half a
    minute at most."""
    away: list[str] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        links = {broker.name: pool.submit(_link, broker) for broker in settings.brokers}
        kafka = _answer(pool.submit(_kafka, settings), away)
        found = _answer(pool.submit(_zookeeper, settings, kafka.group if kafka else None), away)
        every = dict.fromkeys((*addresses, *(found[1] if found else ())))
        told = tuple(pool.map(_instance, every))
        reasons = tuple((name, link.result()) for name, link in links.items())
    away += [reason for _, reason in reasons if reason]
    away += [f"{one.address}: {one.error}" for one in told if one.error]
    return Installation(found[0] if found else None, kafka, reasons, told, tuple(away))


def findings(found: Installation) -> list[str]:
    """What is wrong, in sentences, beside servers that did not answer."""
    wrong = [text for view in found.brokers or () for text in _broker_findings(view)]
    if found.kafka is not None:
        wrong += _kafka_findings(found.kafka)
    for instance in found.instances:
        name = instance.address
        wrong += [f"{name}: {service} is not ready" for service, ready in instance.ready if not ready]
        wrong += [f"{name}: no link to {link}" for link in instance.links_down]
        wrong += [f"{name}: the ledger is broken: {fault}" for fault in instance.faults]
        if not instance.error and not instance.healthy:
            wrong.append(f"{name}: a thread stands still")
    return wrong


def _broker_findings(view: BrokerView) -> list[str]:
    lacks = {
        f"{view.name} is {view.state} in the registry": view.state != "up",
        f"nobody watches who listens on {view.name}": view.watcher is None,
        f"no instance of kalinka pub is subscribed on {view.name}": not view.pub,
        f"no instance of kalinka sub serves {view.name}": view.links.sub == 0,
    }
    return [text for text, true in lacks.items() if true]


def _kafka_findings(kafka: KafkaView) -> list[str]:
    wrong = [f"the topic {name} does not exist: kalinka topics create makes it" for name in kafka.missing]
    if not kafka.group.members and not kafka.group.refused:
        wrong.append("nobody reads in the consumer group: no instance of kalinka sub runs")
    return wrong


def _answer(asked: Future[Found], away: list[str]) -> Found | None:
    try:
        return asked.result()
    except KalinkaError as error:
        away.append(str(error))
        return None


def _zookeeper(settings: Settings, group: GroupState | None) -> tuple[tuple[BrokerView, ...], list[str]]:
    """The brokers, and where instances serve their metrics."""
    try:
        client = connect(settings.zookeeper, ANSWER)
    except ValueError as error:
        raise RegistryError(f"a secret of ZooKeeper cannot be read: {error}") from error
    try:
        return tuple(Fleet(client, settings).views(group)), addresses_of(client, settings.zookeeper.root, ANSWER)
    finally:
        client.stop()


def _kafka(settings: Settings) -> KafkaView:
    cluster = Cluster(settings, ANSWER)
    topics = wanted(settings)
    there = cluster.look([topic.name for topic in topics]).topics
    present = [topic for topic in topics if topic.name in there]
    spans = cluster.spans([topic.name for topic in present])
    with Committed(settings) as committed:
        read_by_us = {topic.name for topic in present if topic.purpose == "down"}
        done = committed.offsets([place for place in spans if place[0] in read_by_us], ANSWER)
    return KafkaView(
        group=cluster.group(settings.sub.consumer_group),
        topics=tuple(_topic(topic, spans, done) for topic in present),
        missing=tuple(topic.name for topic in topics if topic.name not in there),
    )


def _topic(topic: Topic, spans: Mapping[Place, tuple[int, int]], done: Mapping[Place, int]) -> TopicView:
    own = {place: span for place, span in spans.items() if place[0] == topic.name}
    behind = [end - max(done[place], start) for place, (start, end) in own.items() if place in done]
    records = sum(end - start for start, end in own.values())
    return TopicView(topic.name, topic.purpose, records, sum(behind) if topic.purpose == "down" else None)


def _link(broker: Broker) -> str:
    """Why no link can be made; empty where it can."""
    link = Link(broker, lambda _: None)
    try:
        link.connect()
    except (LinkError, ValueError) as error:
        return str(error)
    link.drop("the question is answered")
    return ""


def _instance(address: str) -> InstanceView:
    try:
        return _read(address, _get(f"http://{address}/metrics"))
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return InstanceView(address, error=f"its metrics cannot be read: {getattr(reason, 'strerror', None) or reason}")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=ANSWER) as answer:
        return str(answer.read().decode())


def _read(address: str, text: str) -> InstanceView:
    scrape = read(text)
    return InstanceView(
        address=address,
        ready=tuple((labels["service"], value == 1) for labels, value in scrape.get(catalogue.READY.name, ())),
        healthy=all(value == 1 for _, value in scrape.get(catalogue.HEALTHY.name, ())),
        links_down=tuple(
            f"{labels['broker']} ({labels['service']})"
            for labels, value in scrape.get(catalogue.LINK.name, ())
            if value == 0
        ),
        in_flight_up=int(summed(scrape, catalogue.UP_IN_FLIGHT)),
        in_flight_down=int(summed(scrape, catalogue.DOWN_IN_FLIGHT)),
        lag=max((value for _, value in scrape.get(catalogue.UP_LAG.name, ())), default=0.0),
        parked=int(summed(scrape, catalogue.PARKED)),
        faults=tuple(faults(scrape)),
    )
