"""The whole way of a message or a record by the configuration alone: no server is asked.

Everything is said by the same routes and records as in service; this only writes down what they decide.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kalinka_jms import murmur2
from kalinka_jms.config.settings import Settings, UpRoute
from kalinka_jms.errors import RecordError
from kalinka_jms.names import matches, parked_topic, to_jms, to_mqtt
from kalinka_jms.records import DEFAULT_SOURCE, KALINKA_ID, KALINKA_SOURCE, Command, from_record, reference_head
from kalinka_jms.routes import Downlinks, Uplink, Uplinks
from kalinka_jms.template import Template

FORWARDED = {"kalinka.mqtt.pub": "mqtt.*.mqtt.*.pub", "kalinka.sparkcluster.pub": "mqtt.*.sparkcluster.pub"}
"""What a broker with the configuration of `kalinka broker-config` forwards into its queues."""

VIRTUAL = ("VirtualTopicConsumers.", "Consumer.")
"""How the names of virtual-topic queues begin: this, a name of one level, and the topics that come into the queue."""

Counts = Callable[[str], "int | None"]
"""Kafka topic → its number of partitions, None where that is not known."""

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Queue:
    """The broker's queue from which Kalinka takes a message, and the topics (JMS wildcards) that come into it."""

    name: str
    pattern: str
    kind: Literal["composite topic", "virtual topic"]


@dataclass(frozen=True, slots=True)
class Up:
    """The route of a message into Kafka. `captured` is what its `from` found; no `group` where its topic has none."""

    route: int
    template: str
    captured: dict[str, str]
    group: str | None
    group_rule: str


@dataclass(frozen=True, slots=True)
class Partition:
    """Where a record stands in its topic; no `number` where the number of partitions, `count`, is not known."""

    number: int | None
    count: int | None
    rule: str


@dataclass(frozen=True, slots=True)
class Landing:
    """A record in Kafka. `headers` as they are written; values that only the message tells are in angle brackets."""

    topic: str
    key: str
    partition: Partition
    envelope: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Down:
    """The route of a record to its device.

    `brokers` are those on which the instance that reads the topic reaches the device itself; `listens` is the filter to
    which a device usually subscribes; `ack_timeout` in seconds.
    """

    route: int
    template: str
    group: str
    brokers: tuple[str, ...]
    device: str
    source: str
    id: str
    hops: int
    topic: str
    listens: str
    qos: int
    delivery: str
    ack_timeout: float
    parked: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where a message or record ends before its time, why, and what becomes of it."""

    at: Literal["up", "down"]
    reason: str
    then: str


@dataclass(frozen=True, slots=True)
class Way:
    """The whole way, as far as it goes. `notes` are what else should be known of it."""

    message: str | None = None
    queue: Queue | None = None
    up: Up | None = None
    record: Landing | None = None
    down: Down | None = None
    refusal: Refusal | None = None
    notes: tuple[str, ...] = ()


class Explainer:
    """Explains messages and records by one configuration."""

    def __init__(self, settings: Settings, partitions: Counts = lambda _: None) -> None:
        self._settings = settings
        self._partitions = partitions
        self._partitioner = str(settings.kafka.get("partitioner", "murmur2_random"))
        self._uplinks = Uplinks(settings.routes.up, settings.groups)
        self._downlinks = Downlinks(settings.routes.down, settings.groups)

    def message(self, topic: str) -> Way:
        """The way of a message that a device publishes to this MQTT topic."""
        way = self._queued(Way(message=topic))
        try:
            _utf8(topic, "MQTT topic")
            link = self._uplinks.link(topic)
            head = b"" if link.envelope == "plain" else reference_head(link.source)
        except RecordError as error:
            unseen = way.queue is None and "Kalinka never sees it, unless the broker forwards it: then "
            return replace(way, refusal=Refusal("up", str(error), f"{unseen or ''}{self._buried}"))
        way = replace(way, up=self._up(topic, link), record=self._landing(link))
        headers = [header for header in link.headers if header[0] == KALINKA_SOURCE]
        return (
            self._delivered(way, link.topic, link.key, head, headers) if link.topic in self._downlinks.topics else way
        )

    def record(self, topic: str, key: bytes, source: str | None = None, headers: Headers = ()) -> Way:
        """The way of a record that somebody writes to this Kafka topic.

        `source` is put where the topic's envelope has it: into the header, or before the payload.
        """
        way = Way(record=Landing(topic, _shown(key), self._partition(topic, key), "plain", _readable(headers)))
        try:
            route, _ = self._downlinks.route_for(topic)
            head = b"" if route.envelope == "plain" else _head(source)
        except RecordError as error:
            return replace(way, refusal=Refusal("down", str(error), self._unread(topic)))
        assert way.record is not None
        way = replace(way, record=replace(way.record, envelope=route.envelope))
        if source is not None and route.envelope == "plain":
            headers = [*headers, (KALINKA_SOURCE, os.fsencode(source))]
        return self._delivered(way, topic, key, head, headers)

    # --- inside

    def _queued(self, way: Way) -> Way:
        jms = to_jms(way.message or "")
        known = [queue for name in self._settings.pub.queues if (queue := _queue(name))]
        found = next((queue for queue in known if matches(queue.pattern, jms)), None)
        if found is not None:
            return replace(way, queue=found)
        if len(known) < len(self._settings.pub.queues):
            note = "which queue takes it stands only in the broker's configuration"
        else:
            note = f"no queue in [pub] queues is known to take it: the broker must forward {jms} into one of them"
        return replace(way, notes=(note,))

    def _up(self, topic: str, link: Uplink) -> Up:
        routes = [(route, Template(route.from_).match(topic)) for route in self._settings.routes.up]
        number, (route, captured) = next((i, pair) for i, pair in enumerate(routes) if pair[1] is not None)
        grouped = "group" in Template(route.topic, ".").names
        rule = self._group_rule(route, link) if grouped else "its topic names no group"
        template = f"{route.from_} -> {route.topic}"
        return Up(number, template, captured or {}, link.group if grouped else None, rule)

    def _group_rule(self, route: UpRoute, link: Uplink) -> str:
        count = len(self._settings.groups)
        if count == 1:
            return "the only one"
        if route.group_by == "source":
            return f"groups[(murmur2({link.source}) & 0x7fffffff) % {count}]"
        return f"groups[crc32({link.device or link.source or link.key.decode()}) % {count}]"

    def _landing(self, link: Uplink) -> Landing:
        headers = ((KALINKA_ID, "<broker>/<message-id>"), *_readable(link.headers))
        partition = self._partition(link.topic, link.key)
        return Landing(link.topic, link.key.decode(), partition, link.envelope, headers)

    def _partition(self, topic: str, key: bytes) -> Partition:
        return partition(key, self._partitions(topic), self._partitioner)

    def _delivered(self, way: Way, topic: str, key: bytes, head: bytes, headers: Headers) -> Way:
        route, group = self._downlinks.route_for(topic)
        try:
            command = from_record(topic, 0, 0, key, head, headers, 0, route.envelope, route.qos)
            source = DEFAULT_SOURCE if command.source is None else command.source
            destination = self._downlinks.link(topic, command.device, source).destination
        except RecordError as error:
            return replace(way, refusal=Refusal("down", str(error), self._buried))
        notes = (*way.notes, *self._group_notes(group))
        return replace(way, down=self._down(command, source, group, to_mqtt(destination)), notes=notes)

    def _group_notes(self, group: str) -> Iterator[str]:
        settings = self._settings
        if group not in settings.served:
            yield f"`kalinka sub` with this file does not serve group {group}: another one must"
        if len(settings.served) < len(settings.groups):
            hops = settings.sub.max_hops
            yield f"a device on a broker of another group is handed over through Kafka, at most {hops} times"

    def _down(self, command: Command, source: str, group: str, topic: str) -> Down:
        settings, (route, _) = self._settings, self._downlinks.route_for(command.topic)
        reached = settings.served if group in settings.served else (group,)
        named = {"group": group, "device": command.device, "source": "+"}
        return Down(
            route=settings.routes.down.index(route),
            template=f"{route.from_} -> {route.to}",
            group=group,
            brokers=tuple(broker.name for broker in settings.brokers if broker.group in reached),
            device=command.device,
            source=source,
            id="<topic>/<partition>/<offset>" if command.id == f"{command.topic}/0/0" else command.id,
            hops=command.hops,
            topic=topic,
            listens=Template(route.to).format(named),
            qos=command.qos,
            delivery=route.delivery,
            ack_timeout=route.ack_timeout or settings.sub.ack_timeout,
            parked=parked_topic(group),
        )

    @property
    def _buried(self) -> str:
        return f"it goes to {self._settings.dead}, byte for byte, with this reason in the header kalinka.reason"

    def _unread(self, topic: str) -> str:
        own = {self._settings.dead, *(parked_topic(group) for group in self._settings.groups)}
        if topic in own:
            return "Kalinka keeps this topic for itself"
        return f"Kalinka does not read it: it stays for whoever does; read are {', '.join(self._downlinks.topics)}"


def partition(key: bytes, count: int | None, partitioner: str = "murmur2_random") -> Partition:
    """Where a producer with this partitioner (librdkafka's name) puts a key, among `count` partitions."""
    if partitioner.startswith("murmur2"):
        return Partition(
            murmur2.place(key, count) if count else None, count, "(murmur2(key) & 0x7fffffff) % partitions"
        )
    if partitioner.startswith("consistent"):
        return Partition(zlib.crc32(key) % count if count else None, count, "crc32(key) % partitions")
    return Partition(None, count, f'as the partitioner "{partitioner}" chooses')


def _queue(name: str) -> Queue | None:
    """What comes into a queue, where its name tells."""
    if name in FORWARDED:
        return Queue(name, FORWARDED[name], "composite topic")
    levels = name.split(".", 2)
    if name.startswith(VIRTUAL) and len(levels) == 3:
        return Queue(name, levels[2], "virtual topic")
    return None


def _head(source: str | None) -> bytes:
    if source is None:
        raise RecordError("the source stands in the first 64 bytes of the value: say which with --source")
    _utf8(source, "source")
    return reference_head(source)


def _utf8(text: str, name: str) -> None:
    """The command line gives bytes that are not UTF-8 as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecordError(f"the {name} is not UTF-8") from None


def _readable(headers: Headers) -> tuple[tuple[str, str], ...]:
    return tuple((name, _shown(value)) for name, value in headers)


def _shown(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
