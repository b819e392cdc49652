"""What is to be done so that Kafka has the topics of a configuration: create what is missing, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kalinka_jms.ops.cluster import Cluster, Look, TopicState
from kalinka_jms.ops.topics import Topic

PARTITIONS = 12
"""Partitions where nobody says how many: so many instances of `kalinka sub` can share the work of a group."""

REPLICATION = 3
"""Copies where nobody says how many, or as many as there are Kafka nodes: one may die, and writes go on."""

Action = Literal["create", "keep", "refused"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a topic that is there differs from what was asked for, or from what it must be, and what can be done."""

    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one topic: `create` it, `keep` it as it is, or nothing, as Kafka hides it from us."""

    topic: Topic
    action: Action
    partitions: int
    replication: int
    settings: Mapping[str, str]
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for; None: as the topics of the same group have it, else the usual."""

    partitions: int | None = None
    replication: int | None = None


def plan(topics: Sequence[Topic], look: Look, settings: Mapping[str, Mapping[str, str]], wish: Wish) -> list[Step]:
    """A step for each topic, in order. Pure."""
    replication = wish.replication or min(REPLICATION, look.nodes)
    return [_step(topic, look, settings, _partitions(topic, topics, look, wish), replication, wish) for topic in topics]


def look_and_plan(cluster: Cluster, topics: Sequence[Topic], wish: Wish) -> list[Step]:
    """The plan for the cluster as it is now. Raises KafkaError."""
    look = cluster.look([topic.name for topic in topics])
    return plan(topics, look, cluster.settings(look.topics), wish)


def carry_out(cluster: Cluster, steps: Sequence[Step], tell: Callable[[Step], None] = lambda _: None) -> None:
    """Create what the plan says; `tell` hears of each one before. Raises KafkaError."""
    for step in steps:
        if step.action == "create":
            tell(step)
            cluster.create(step.topic.name, step.partitions, step.replication, step.settings)


def complete(cluster: Cluster, steps: Sequence[Step]) -> bool:
    """Whether these topics can be used: every partition has its leader and all of its copies. Raises KafkaError."""
    there = cluster.look([step.topic.name for step in steps]).topics if steps else {}
    return all(_whole(there.get(step.topic.name), step) for step in steps)


def _whole(found: TopicState | None, step: Step) -> bool:
    if found is None or found.leaderless:
        return False
    return found.partitions == step.partitions and found.in_sync >= step.replication


def _partitions(topic: Topic, topics: Sequence[Topic], look: Look, wish: Wish) -> int:
    """As many as the others of its group have: that must be equal. For the rest what was asked for, or the usual."""
    there = {other: look.topics[other.name].partitions for other in topics if other.name in look.topics}
    same = [count for other, count in there.items() if other.group == topic.group] if topic.group is not None else []
    return max(same, default=0) or wish.partitions or max(there.values(), default=PARTITIONS)


def _step(
    topic: Topic,
    look: Look,
    settings: Mapping[str, Mapping[str, str]],
    partitions: int,
    replication: int,
    wish: Wish,
) -> Step:
    found = look.topics.get(topic.name)
    if found is None:
        action: Action = "refused" if topic.name in look.refused else "create"
        return Step(topic, action, partitions, replication, _own(topic, replication))
    own = settings.get(topic.name, {})
    differences = tuple(_differences(topic, found, own, partitions, wish))
    return Step(topic, "keep", found.partitions, found.replication, own, differences)


def _own(topic: Topic, replication: int) -> dict[str, str]:
    """With three copies two must have a record before it counts: one node may die, and nothing is lost or stops."""
    return topic.settings | ({"min.insync.replicas": "2"} if replication >= 3 else {})


def _differences(
    topic: Topic, found: TopicState, own: Mapping[str, str], partitions: int, wish: Wish
) -> Iterator[Difference]:
    name, asked = topic.name, wish.partitions or (partitions if topic.group is not None else found.partitions)
    if found.partitions > asked:
        yield Difference(
            f"{found.partitions} partitions, not {asked}", "make a new topic: partitions cannot be taken away"
        )
    if found.partitions < asked:
        remedy = f"kafka-topics.sh --alter --topic {name} --partitions {asked} (keys move: do it while nothing waits)"
        yield Difference(f"{found.partitions} partitions, not {asked}", remedy)
    if wish.replication is not None and found.replication != wish.replication:
        yield Difference(
            f"replication {found.replication}, not {wish.replication}",
            f"kafka-reassign-partitions.sh, for all partitions of {name}",
        )
    for key, value in topic.settings.items():
        if own.get(key, value) != value:
            command = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={value}"
            yield Difference(f"{key}={own[key]}, not {value}", command)
