"""A tracer: one record for a device, followed to its outcome by what Kafka shows.

`kalinka sub` commits a record's offset when its outcome is final, and in the same transaction it writes the record to
the parked topic, the dead-letter topic or another group's topic, where that is the outcome. So an offset that is
committed, and no such record, is a delivery.
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kalinka_jms import kafka
from kalinka_jms.config import Settings
from kalinka_jms.config.settings import DownRoute
from kalinka_jms.dead import KALINKA_REASON
from kalinka_jms.errors import KafkaError
from kalinka_jms.names import parked_topic
from kalinka_jms.ops.cluster import Cluster, Place
from kalinka_jms.ops.committed import Committed
from kalinka_jms.ops.reader import read
from kalinka_jms.records import DEFAULT_SOURCE, KALINKA_ID, KALINKA_SOURCE, reference_head
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.share import Outcome
from kalinka_jms.template import Template

Headers = list[tuple[str, str | bytes | None]]

LOOK = 0.1
"""Seconds between looks at the committed offset."""

ANSWER = 10.0
"""Seconds that Kafka has to take the record."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of the record. `outcome` is None while it is in flight; then `reason` says what it waits for."""

    id: str
    topic: str
    partition: int
    offset: int
    moves: tuple[str, ...] = ()
    """The topics of other groups that it was handed over to."""
    outcome: Outcome | None = None
    reason: str = ""
    seconds: float = 0.0


class Tracer:
    """Sends one record and follows it. Raises KafkaError where Kafka does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = Cluster(settings)
        self._downlinks = Downlinks(settings.routes.down, settings.groups)
        self._starts: dict[Place, int] = {}
        self._visited: set[tuple[str, int, int]] = set()
        self._sent_at = 0.0

    def topic(self, device: str, source: str | None, group: str | None = None) -> str:
        """The topic that a record goes to: of the device's group, and of the first route that fits the source.

        Without a source that is a route that needs none, where there is one.
        """
        groups = self._settings.groups
        chosen = group or groups[zlib.crc32(device.encode(errors="replace")) % len(groups)]
        topics = [topic for topic in self._downlinks.topics if self._downlinks.route_for(topic)[1] == chosen]
        fitting = [topic for topic in topics if self._needs_source(topic) == (source is not None)]
        return (fitting or topics)[0]

    @property
    def topics(self) -> tuple[str, ...]:
        """All that devices are served from."""
        return self._downlinks.topics

    def send(self, topic: str, device: bytes, payload: bytes, source: str | None) -> Trace:
        """Write the record. Raises KalinkaError where it cannot be made, or a topic is missing."""
        route, _ = self._downlinks.route_for(topic)
        id = f"kalinka-send/{uuid.uuid4().hex}"
        headers: Headers = [(KALINKA_ID, id.encode())]
        if route.envelope != "plain":
            payload = reference_head(source or DEFAULT_SOURCE) + payload
        elif source is not None:
            headers.append((KALINKA_SOURCE, source.encode()))
        # asked before: a producer might make Kafka create a topic that is missing
        self._starts = {place: end for place, (_, end) in self._cluster.spans(self._watched(topic)).items()}
        self._sent_at = time.monotonic()
        return self._produce(Trace(id, topic, -1, -1), device, payload, headers)

    def follow(self, trace: Trace, wait: float, tell: Callable[[str], None] = lambda _: None) -> Trace:
        """Wait up to `wait` seconds for the outcome."""
        deadline = time.monotonic() + wait
        with Committed(self._settings) as committed:
            while trace.outcome is None:
                position = committed.offset(trace.topic, trace.partition)
                if position > trace.offset:
                    trace = self._looked_for(trace)
                elif time.monotonic() > deadline:
                    return replace(trace, reason=self._waits(trace, position), seconds=self._passed())
                else:
                    tell(f"{trace.id} waits in {trace.topic}/{trace.partition}")
                    time.sleep(LOOK)
        return trace

    def _produce(self, trace: Trace, device: bytes, value: bytes, headers: Headers) -> Trace:
        told: list[tuple[Any, Any]] = []
        timeout = {"message.timeout.ms": int(ANSWER * 1000)}
        producer = kafka.producer(self._settings, **timeout)
        producer.produce(trace.topic, value, device, headers=headers, on_delivery=lambda *answer: told.append(answer))
        producer.flush(ANSWER + 1)
        if not told or told[0][0] is not None:
            raise KafkaError(f"Kafka did not take the record: {told[0][0].str() if told else 'no answer'}")
        return self._at(trace, told[0][1])

    def _at(self, trace: Trace, message: Any) -> Trace:
        """The record is there now."""
        place = message.topic(), message.partition(), message.offset()
        self._visited.add(place)
        return replace(trace, topic=place[0], partition=place[1], offset=place[2])

    def _looked_for(self, trace: Trace) -> Trace:
        """Its offset is committed: the record is in one of the other topics, or it was delivered."""
        ends = self._cluster.spans(sorted({topic for topic, _ in self._starts}))
        spans = {place: (start, ends[place][1]) for place, start in self._starts.items()}
        seconds = self._passed()
        copies = [message for message in read(self._settings, spans) if _is_of(trace, message)]
        moved = [message for message in copies if self._is_new(message)]
        for message in moved:
            trace = self._at(replace(trace, moves=(*trace.moves, message.topic())), message)
        for message in copies:
            if message.topic() == self._settings.dead:
                reason = dict(message.headers()).get(KALINKA_REASON) or b""
                return replace(trace, outcome=Outcome.DEAD, reason=reason.decode(errors="replace"), seconds=seconds)
            if message.topic() not in self._downlinks.topics:
                reason = f"it waits in {message.topic()} until the device listens"
                return replace(trace, outcome=Outcome.PARKED, reason=reason, seconds=seconds)
        return trace if moved else replace(trace, outcome=Outcome.DELIVERED, seconds=seconds)

    def _is_new(self, message: Any) -> bool:
        """Whether this is a place for devices where the record was not seen yet: it was handed over to there."""
        place = message.topic(), message.partition(), message.offset()
        return message.topic() in self._downlinks.topics and place not in self._visited

    def _watched(self, topic: str) -> list[str]:
        """Where a record of this topic can end up."""
        route, _ = self._downlinks.route_for(topic)
        groups = self._settings.groups
        return [*(_named(route, group) for group in groups), *map(parked_topic, groups), self._settings.dead]

    def _waits(self, trace: Trace, position: int) -> str:
        group = self._cluster.group(self._settings.sub.consumer_group)
        if not group.refused and not any(
            trace.partition in one.partitions.get(trace.topic, ()) for one in group.members
        ):
            return f"no instance of `kalinka sub` reads {trace.topic}/{trace.partition}: start one"
        before = max(trace.offset - max(position, 0), 0)
        return f"`kalinka sub` has not decided yet; {before} records before it are not final either"

    def _needs_source(self, topic: str) -> bool:
        route, _ = self._downlinks.route_for(topic)
        return "source" in Template(route.to).names or route.envelope != "plain"

    def _passed(self) -> float:
        return time.monotonic() - self._sent_at


def _is_of(trace: Trace, message: Any) -> bool:
    return dict(message.headers() or ()).get(KALINKA_ID) == trace.id.encode()


def _named(route: DownRoute, group: str) -> str:
    return Template(route.from_, ".").format({"group": group})
