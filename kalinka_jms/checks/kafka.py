"""Has Kafka the topics of the configuration, as the promise needs them, and may we use them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, KafkaError
from kalinka_jms.ops.cluster import Cluster, GroupState, Look, TopicState
from kalinka_jms.ops.topics import Topic, unnamed, wanted

WHERE = "Kafka"
SIZE = "max.message.bytes"
COPIES = "min.insync.replicas"
CREATE = "`kalinka topics create` makes what is missing"


def check(settings: Settings) -> Iterator[Finding]:
    """Everything about Kafka. Raises nothing that its state can cause."""
    topics = wanted(settings)
    try:
        cluster = Cluster(settings)
        look = cluster.look([topic.name for topic in topics])
        own = cluster.settings(look.topics)
        group = cluster.group(settings.sub.consumer_group)
    except KafkaError as error:
        yield Finding(
            WHERE, Kind.UNREACHABLE, str(error), 'start it, or correct "bootstrap.servers" and the login in [kafka]'
        )
        return
    except ConfigError as error:
        yield Finding(WHERE, Kind.FINDING, str(error), "correct [kafka]")
        return
    found = [*judged(topics, look, own), *_group(settings.sub.consumer_group, group)]
    yield from found
    for template in unnamed(settings):
        yield _note(f'whether the topics of "{template}" exist is not known: only messages name them', "create them")
    if not any(finding.kind is Kind.FINDING for finding in found):
        yield Finding(WHERE, Kind.FINE, f"{len(topics)} topics on {look.nodes} node{'s' if look.nodes > 1 else ''}")


def judged(topics: Sequence[Topic], look: Look, own: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """What is wrong with the topics. Pure."""
    for topic in topics:
        yield from _topic(topic, look, own.get(topic.name, {}))
    yield from _counts(topics, look)
    yield from _sizes(topics, own)
    if look.nodes == 1:
        yield _note("there is one node only: while it is away nothing goes on", "have three")


def _topic(topic: Topic, look: Look, own: Mapping[str, str]) -> Iterator[Finding]:
    found = look.topics.get(topic.name)
    if topic.name in look.refused:
        needed = ", ".join(sorted(_needed(topic)))
        yield _finding(f"the topic {topic.name} is hidden from us", f"allow {needed} on it")
    elif found is None:
        yield _finding(f"the topic {topic.name} does not exist: {_without(topic)}", CREATE)
    else:
        yield from _state(found, own, look.nodes)
        yield from _kept(topic, own)
        yield from _allowed(topic, found)


def _without(topic: Topic) -> str:
    match topic.purpose:
        case "down":
            return f"sub waits for it and serves no device of group {topic.group}"
        case "parked":
            return f"sub waits for it, and what is for absent devices of group {topic.group} has no place"
        case "up":
            return "pub cannot pass on what devices publish there, and stops taking more"
        case "dead":
            return "one bad message stops everything behind it"


def _state(found: TopicState, own: Mapping[str, str], nodes: int) -> Iterator[Finding]:
    name, needed = found.name, int(own.get(COPIES, 1))
    if found.leaderless:
        parts = ", ".join(map(str, found.leaderless))
        yield _finding(f"{name} has no leader for partition {parts}: nobody can use it", "start the nodes that have it")
    elif found.in_sync < needed:
        yield _finding(
            f"{name} has {found.in_sync} copies in sync and needs {needed}: nothing can be written",
            "start the nodes that are away",
        )
    if found.replication == 1 and nodes > 1:
        yield _finding(
            f"{name} has one copy only: what one node held is gone with it", "kafka-reassign-partitions.sh: 3 copies"
        )
    elif found.replication > 1 and own and needed == 1:
        yield _finding(
            f"{name} has {COPIES}=1: what only one node had when it died counts as written, and is lost",
            _set(name, COPIES, str(min(2, found.replication - 1)))
            if found.replication > 2
            else "3 copies, and 2 in sync",
        )
    elif found.replication > 1 and needed >= found.replication:
        yield _finding(
            f"{name} has {found.replication} copies and {COPIES}={needed}: one node away, and nothing can be written",
            _set(name, COPIES, str(found.replication - 1)) if found.replication > 2 else "3 copies, and 2 in sync",
        )


def _kept(topic: Topic, own: Mapping[str, str]) -> Iterator[Finding]:
    policy, retention = own.get("cleanup.policy", ""), own.get("retention.ms", "-1")
    if topic.purpose == "parked" and policy not in ("compact", ""):
        yield _finding(
            f"{topic.name} has cleanup.policy={policy}: what waits for a device is deleted with time",
            _set(topic.name, "cleanup.policy", "compact"),
        )
    if topic.purpose != "parked" and "compact" in policy:
        yield _finding(
            f"{topic.name} has cleanup.policy={policy}: of the records with one key only the last one stays",
            _set(topic.name, "cleanup.policy", "delete"),
        )
    if topic.purpose == "dead" and retention != "-1":
        days = int(retention) / 86_400_000
        yield _note(f"dead records are kept for {days:g} days only", _set(topic.name, "retention.ms", "-1"))


def _allowed(topic: Topic, found: TopicState) -> Iterator[Finding]:
    missing = sorted(_needed(topic) - found.allowed) if found.allowed is not None else []
    if missing:
        yield _finding(f"we may not {', '.join(missing)} the topic {topic.name}", "add an ACL that allows it")


def _needed(topic: Topic) -> set[str]:
    """Operations that the services need on it."""
    read = {"READ"} if topic.purpose in ("down", "parked") else set()
    return read | ({"WRITE"} if topic.written else set()) | {"DESCRIBE"}


def _counts(topics: Sequence[Topic], look: Look) -> Iterator[Finding]:
    """Within a group one partition number has to come to one instance, parked records included."""
    groups = dict.fromkeys(topic.group for topic in topics if topic.group is not None)
    for group in groups:
        names = [topic.name for topic in topics if topic.group == group and topic.name in look.topics]
        counts = {name: look.topics[name].partitions for name in names}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            most = max(counts.values())
            few = next(name for name, count in counts.items() if count < most)
            yield _finding(
                f"the topics of group {group} have different numbers of partitions ({told}): sub does not start",
                f"kafka-topics.sh --alter --topic {few} --partitions {most}",
            )


def _sizes(topics: Sequence[Topic], own: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    sizes = {topic.name: int(own[topic.name][SIZE]) for topic in topics if SIZE in own.get(topic.name, {})}
    most = max(sizes.values(), default=0)
    for name, size in sizes.items():
        if size < most:
            yield _finding(
                f"{name} has {SIZE}={size}, others {most}: a record between the two cannot be parked, moved or kept",
                _set(name, SIZE, str(most)),
            )


def _group(name: str, group: GroupState) -> Iterator[Finding]:
    if group.refused or (group.allowed is not None and "READ" not in group.allowed):
        yield _finding(
            f"we may not read in the consumer group {name}", "add an ACL that allows READ and DESCRIBE on it"
        )


def _set(topic: str, key: str, value: str) -> str:
    return f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {key}={value}"


def _finding(means: str, remedy: str) -> Finding:
    return Finding(WHERE, Kind.FINDING, means, remedy)


def _note(means: str, remedy: str) -> Finding:
    return Finding(WHERE, Kind.NOTE, means, remedy)
