"""Kafka as its administrators see it: topics, their settings and copies, what is allowed, who reads in a group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, KafkaError, Problem
from kalinka_jms.kafka import offset_of

log = logging.getLogger("kalinka.admin")
log.propagate = False  # what librdkafka would warn of is in the text of KafkaError
log.addHandler(logging.NullHandler())

TIMEOUT = 10.0
"""Seconds that Kafka has for one answer."""

PAUSE = 0.2
"""Seconds before a question is asked again that Kafka could not answer yet (a coordinator that is being chosen)."""

_QUIET = {"client.id": "kalinka-admin", "reconnect.backoff.ms": 500, "reconnect.backoff.max.ms": 2000}
_REFUSED = frozenset(
    (
        KafkaCode.TOPIC_AUTHORIZATION_FAILED,
        KafkaCode.GROUP_AUTHORIZATION_FAILED,
        KafkaCode.CLUSTER_AUTHORIZATION_FAILED,
    )
)


_SOON = frozenset(
    (
        KafkaCode.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaCode.COORDINATOR_NOT_AVAILABLE,
        KafkaCode.NOT_COORDINATOR,
        KafkaCode.LEADER_NOT_AVAILABLE,
        KafkaCode.NOT_LEADER_FOR_PARTITION,
    )
)
"""Kafka will know soon."""

Place = tuple[str, int]
"""A topic and a partition of it."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is now."""

    name: str
    partitions: int
    replication: int
    """Copies of the partition that has the fewest."""
    in_sync: int
    """Copies in sync of the partition that has the fewest."""
    leaderless: tuple[int, ...]
    """Partitions without a leader: nobody can read or write them now."""
    allowed: frozenset[str] | None
    """The operations that are allowed to us, such as `READ`; None where Kafka does not say."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Its settings, the cluster's defaults included; empty where we may not see them."""


@dataclass(frozen=True, slots=True)
class Look:
    """Topics that were asked for: those there are, and those that Kafka does not let us see. The rest is absent."""

    nodes: int
    topics: Mapping[str, TopicState]
    refused: frozenset[str]


@dataclass(frozen=True, slots=True)
class Member:
    """One reader in a group."""

    id: str
    host: str
    partitions: Mapping[str, tuple[int, ...]]
    """Topic → the partitions that are its own."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group as it is now; `refused` where Kafka does not let us see it."""

    state: str
    members: tuple[Member, ...]
    allowed: frozenset[str] | None
    refused: bool = False


class Cluster:
    """Asks one cluster. Every method raises KafkaError with what librdkafka said, where Kafka does not answer."""

    def __init__(self, settings: Settings, timeout: float = TIMEOUT) -> None:
        """`timeout`: seconds for each answer. Raises ConfigError for a setting that librdkafka refuses."""
        self._timeout = timeout
        self._where = str(settings.kafka.get("bootstrap.servers") or settings.kafka.get("metadata.broker.list"))
        self._said: dict[str, None] = {}
        try:
            options = _QUIET | settings.kafka_settings() | {"error_cb": self._hear}
            self._admin = AdminClient(options, logger=log)  # type: ignore[arg-type]
        except (KafkaException, ValueError, TypeError) as error:
            raise ConfigError("[kafka]", (Problem("kafka", "", str(error)),)) from error

    def look(self, names: Sequence[str]) -> Look:
        """The topics of these names, without their settings."""
        nodes = len(self._try(lambda: self._admin.list_topics(timeout=self._timeout)).brokers)
        asked = self._admin.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=self._timeout
        )
        found, refused = {}, set()
        for name, answer in asked.items():
            try:
                found[name] = _topic(answer.result())
            except KafkaException as error:
                code = error.args[0].code()
                if code in _REFUSED:
                    refused.add(name)
                elif code != KafkaCode.UNKNOWN_TOPIC_OR_PART:
                    raise self._error(error) from error
        return Look(nodes, found, frozenset(refused))

    def settings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings of topics that exist, by topic; without those that we may not see."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        asked = self._admin.describe_configs(resources, request_timeout=self._timeout) if resources else {}
        found = {}
        for resource, answer in asked.items():
            try:
                found[resource.name] = {name: str(entry.value) for name, entry in answer.result().items()}
            except KafkaException as error:
                if error.args[0].code() not in _REFUSED:
                    raise self._error(error) from error
        return found

    def group(self, name: str) -> GroupState:
        """A consumer group; one that nobody has ever used has no members."""

        def ask() -> Any:
            asked = self._admin.describe_consumer_groups(
                [name], include_authorized_operations=True, request_timeout=self._timeout
            )
            return asked[name].result()

        try:
            found = self._try(ask)
        except KafkaError as error:
            code = getattr(error.__cause__, "args", (None,))[0]
            if isinstance(code, KafkaCode) and code.code() in _REFUSED:
                return GroupState("", (), None, refused=True)
            raise
        members = tuple(_member(member) for member in found.members)
        return GroupState(found.state.name.lower(), members, _operations(found))

    def count(self, topic: str) -> int | None:
        """The number of partitions of a topic; None where it does not exist, or is hidden."""
        found = self.look([topic]).topics.get(topic)
        return found.partitions if found is not None else None

    def spans(self, topics: Sequence[str]) -> dict[Place, tuple[int, int]]:
        """The first offset of each partition of these topics, and the one after its last committed record."""
        look = self.look(topics)
        if missing := [name for name in topics if name not in look.topics]:
            raise KafkaError(
                f"Kafka at {self._where} has no topic {', '.join(missing)}: kalinka topics create makes it"
            )
        places = [(name, number) for name, topic in look.topics.items() for number in range(topic.partitions)]
        first = self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        last = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {place: (first[place], last[place]) for place in places}

    def _offsets(self, places: Sequence[Place], spec: OffsetSpec) -> dict[Place, int]:
        def ask() -> dict[Place, int]:
            asked = self._admin.list_offsets(
                {TopicPartition(*place): spec for place in places},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._timeout,
            )
            return {(where.topic, where.partition): offset_of(answer) for where, answer in asked.items()}

        found: dict[Place, int] = self._try(ask)
        return found

    def create(self, name: str, partitions: int, replication: int, settings: Mapping[str, str]) -> bool:
        """Create a topic; False if somebody else did in the meantime."""
        topic = NewTopic(name, partitions, replication, config=dict(settings))
        (made,) = self._admin.create_topics([topic], operation_timeout=self._timeout).values()
        try:
            made.result()
        except KafkaException as error:
            if error.args[0].code() == KafkaCode.TOPIC_ALREADY_EXISTS:
                return False
            raise self._error(error, f"cannot create {name}") from error
        return True

    def _try(self, ask: Callable[[], Any]) -> Any:
        """Ask, again while Kafka says that it will know soon."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].code() not in _SOON or time.monotonic() > deadline:
                    raise self._error(error) from error
            time.sleep(PAUSE)

    def _error(self, error: KafkaException, what: str = "") -> KafkaError:
        self._admin.poll(0.1)
        code = error.args[0]
        text = "; ".join([*self._said][:3]) or f"{code.str().rstrip(': ')} ({code.name()})"
        return KafkaError(f"Kafka at {self._where}: {what}{': ' if what else ''}{text}")

    def _hear(self, error: KafkaCode) -> None:
        """librdkafka tells here why a connection fails; that all are down says nothing more."""
        if error.code() != KafkaCode._ALL_BROKERS_DOWN:
            self._said.setdefault(error.str().partition(" (after ")[0])


def _topic(found: Any) -> TopicState:
    parts = found.partitions
    return TopicState(
        name=found.name,
        partitions=len(parts),
        replication=min((len(part.replicas) for part in parts), default=0),
        in_sync=min((len(part.isr) for part in parts), default=0),
        leaderless=tuple(part.id for part in parts if part.leader is None or part.leader.id < 0),
        allowed=_operations(found),
    )


def _operations(found: Any) -> frozenset[str] | None:
    operations = found.authorized_operations
    return None if operations is None else frozenset(operation.name for operation in operations)


def _member(found: Any) -> Member:
    partitions: dict[str, list[int]] = {}
    for place in found.assignment.topic_partitions if found.assignment else ():
        partitions.setdefault(place.topic, []).append(place.partition)
    return Member(found.member_id, found.host, {topic: tuple(sorted(numbers)) for topic, numbers in partitions.items()})
