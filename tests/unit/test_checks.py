"""What a look at a running installation finds: Kafka's topics, and brokers that answer badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scripted_broker import Peer, ScriptedBroker

from kalinka_jms.checks import broker, kafka, probe, sample
from kalinka_jms.checks.finding import Finding, Kind, worst
from kalinka_jms.config.settings import Settings
from kalinka_jms.ops.cluster import Look, TopicState
from kalinka_jms.ops.topics import wanted

ALL = ["0.mqtt.mqtt", "0.sparkcluster.mqtt", "0.parked", "0.mqtt.sparkcluster", "kalinka.dead"]
RIGHTS = frozenset(("READ", "WRITE", "DESCRIBE"))
ALTER = "kafka-configs.sh --alter --entity-type topics --entity-name"


def settings(**broker: Any) -> Settings:
    given = {"name": "dev1", "stomp": "stomp://b:61613"} | broker
    return Settings.model_validate(
        {"brokers": [given], "kafka": {"bootstrap.servers": "k:9092"}, "zookeeper": {"hosts": "z:2181"}}
    )


def topic(name: str, **more: Any) -> TopicState:
    usual = {"partitions": 6, "replication": 3, "in_sync": 3, "leaderless": (), "allowed": RIGHTS}
    return TopicState(**{"name": name, **usual, **more})


def own(name: str) -> dict[str, str]:
    policy = "compact" if name == "0.parked" else "delete"
    retention = "-1" if name == "kalinka.dead" else "604800000"
    return {
        "min.insync.replicas": "2",
        "max.message.bytes": "1048588",
        "cleanup.policy": policy,
        "retention.ms": retention,
    }


def judged(
    *topics: TopicState, nodes: int = 3, without: str = "", refused: str = "", **changed: dict[str, str]
) -> list[str]:
    """What is found where these topics are as given, and all others as they should be."""
    found = {name: topic(name) for name in ALL} | {one.name: one for one in topics}
    found.pop(without or refused, None)
    configs = {name: own(name) | changed.get(name.replace(".", "_"), {}) for name in found}
    look = Look(nodes, found, frozenset((refused,) if refused else ()))
    return [str(one) for one in kafka.judged(wanted(settings()), look, configs)]


def test_nothing_is_found_where_all_is_right() -> None:
    assert judged() == []


def test_one_node_is_worth_a_note() -> None:
    single = [topic(name, replication=1, in_sync=1) for name in ALL]
    one = {name.replace(".", "_"): {"min.insync.replicas": "1"} for name in ALL}
    assert judged(*single, nodes=1, **one) == [
        "Kafka: note: there is one node only: while it is away nothing goes on; have three"
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("0.mqtt.mqtt", "sub waits for it and serves no device of group 0"),
        ("0.parked", "sub waits for it, and what is for absent devices of group 0 has no place"),
        ("0.mqtt.sparkcluster", "pub cannot pass on what devices publish there, and stops taking more"),
        ("kalinka.dead", "one bad message stops everything behind it"),
    ],
)
def test_a_missing_topic(name: str, told: str) -> None:
    line = f"Kafka: finding: the topic {name} does not exist: {told}; `kalinka topics create` makes what is missing"
    assert judged(without=name) == [line]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            topic("0.parked", partitions=3),
            "the topics of group 0 have different numbers of partitions (0.mqtt.mqtt 6, 0.sparkcluster.mqtt 6, "
            "0.parked 3): sub does not start; kafka-topics.sh --alter --topic 0.parked --partitions 6",
        ),
        (
            topic("kalinka.dead", replication=1, in_sync=1),
            "kalinka.dead has 1 copies in sync and needs 2: nothing can be written; start the nodes that are away",
        ),
        (
            topic("0.parked", leaderless=(1, 4)),
            "0.parked has no leader for partition 1, 4: nobody can use it; start the nodes that have it",
        ),
        (
            topic("0.parked", allowed=frozenset(("READ", "DESCRIBE"))),
            "we may not WRITE the topic 0.parked; add an ACL that allows it",
        ),
        (
            topic("0.mqtt.mqtt", allowed=frozenset(("DESCRIBE",))),
            "we may not READ, WRITE the topic 0.mqtt.mqtt; add an ACL that allows it",
        ),
    ],
)
def test_a_topic_that_is_not_as_it_should_be(wrong: TopicState, told: str) -> None:
    assert f"Kafka: finding: {told}" in judged(wrong)


def test_a_topic_that_only_others_fill_need_not_be_written() -> None:
    assert judged(topic("0.sparkcluster.mqtt", allowed=frozenset(("READ", "DESCRIBE")))) == []


def test_a_hidden_topic() -> None:
    assert judged(refused="0.parked") == [
        "Kafka: finding: the topic 0.parked is hidden from us; allow DESCRIBE, READ, WRITE on it"
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"min.insync.replicas": "1"},
            "0.parked has min.insync.replicas=1: what only one node had when it died counts as written, and is lost; "
            f"{ALTER} 0.parked --add-config min.insync.replicas=2",
        ),
        (
            {"min.insync.replicas": "3"},
            "0.parked has 3 copies and min.insync.replicas=3: one node away, and nothing can be written; "
            f"{ALTER} 0.parked --add-config min.insync.replicas=2",
        ),
        (
            {"cleanup.policy": "delete"},
            "0.parked has cleanup.policy=delete: what waits for a device is deleted with time; "
            f"{ALTER} 0.parked --add-config cleanup.policy=compact",
        ),
        (
            {"max.message.bytes": "1000"},
            "0.parked has max.message.bytes=1000, others 1048588: a record between the two cannot be parked, moved or "
            f"kept; {ALTER} 0.parked --add-config max.message.bytes=1048588",
        ),
    ],
)
def test_a_setting_that_is_not_as_it_should_be(changed: dict[str, str], told: str) -> None:
    assert judged(**{"0_parked": changed}) == [f"Kafka: finding: {told}"]


def test_dead_records_that_are_not_kept_for_ever_are_noted() -> None:
    assert judged(kalinka_dead={"retention.ms": "604800000"}) == [
        f"Kafka: note: dead records are kept for 7 days only; {ALTER} kalinka.dead --add-config retention.ms=-1"
    ]


def test_what_cannot_be_reached_decides_over_what_is_found() -> None:
    def found(*kinds: Kind) -> Kind:
        return worst(Finding("x", kind, "y") for kind in kinds)

    assert found() == found(Kind.FINE, Kind.NOTE) == Kind.FINE
    assert found(Kind.NOTE, Kind.FINDING, Kind.FINE) == Kind.FINDING
    assert found(Kind.UNREACHABLE, Kind.FINDING) == Kind.UNREACHABLE


def test_samples_of_routes() -> None:
    assert sample.jms("mqtt/{source}/{group}/{device}/sub", "7", "dev1", "*") == "mqtt.*.7.dev1.sub"
    assert sample.wildcard("a/{device}/{rest#}", "7") == "a.*.>"
    assert sample.table(["a/{device}", "b/{x}", "a/{device}"], "0", "d", "o") == {"a.d": "a/{device}", "b.o": "b/{x}"}


# -- brokers that answer badly


def looked(script: Callable[[Peer], None], **more: Any) -> list[str]:
    with ScriptedBroker(script) as scripted:
        given = settings(stomp=f"stomp://127.0.0.1:{scripted.port}", **more)
        return [str(one).replace(str(scripted.port), "PORT") for one in broker.check(given, given.brokers[0])]


def test_a_broker_that_refuses_the_login() -> None:
    def refuse(peer: Peer) -> None:
        peer.frame()
        peer.send(b"ERROR\nmessage:User name [kalinka] or password is invalid.\n\n\0")

    assert looked(refuse, login="kalinka", passcode="wrong") == [
        "dev1: finding: the broker refuses the link: User name [kalinka] or password is invalid; "
        'correct login ("kalinka") and passcode of this broker in the configuration'
    ]
    assert looked(refuse)[0].endswith("; give this broker a login and a passcode in the configuration")


def test_a_broker_where_nobody_listens() -> None:
    with ScriptedBroker(lambda _: None) as scripted:
        given = settings(stomp=f"stomp://127.0.0.1:{scripted.port}")
    (found,) = broker.check(given, given.brokers[0])
    assert str(found) == (
        f"dev1: unreachable: cannot connect to stomp://127.0.0.1:{scripted.port}: Connection refused; "
        "start the broker, or correct stomp of this broker"
    )


def test_a_broker_that_does_not_allow_enough() -> None:
    def forbid(peer: Peer) -> None:
        peer.greet()
        peer.frame()
        peer.send(b"ERROR\nmessage:User kalinka is not authorized to read from\\c topic\\c//ActiveMQ.Advisory.X.\n\n\0")
        peer.wait_for_close()

    found = looked(forbid, login="kalinka")[-1]
    assert found.startswith(
        "dev1: finding: the login kalinka may not do enough: User kalinka is not authorized to read from: "
        "topic://ActiveMQ.Advisory.X; allow it to read, write and admin ActiveMQ.Advisory.>, kalinka.>"
    )


def test_a_broker_that_is_old_and_hands_no_echo_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ECHO_TIMEOUT", 0.2)

    def swallow(peer: Peer) -> None:
        peer.frame()
        peer.send(b"CONNECTED\nversion:1.2\nsession:ID\\cx-1\nserver:ActiveMQ/6.1.8\nheart-beat:0,0\n\n\0\n")
        peer.wait_for_close()

    assert looked(swallow) == [
        "dev1: finding: ActiveMQ/6.1.8 is older than 6.2.9: it has known holes, and Kalinka is not tested with it; "
        "update it",
        "dev1: finding: what Kalinka sends to itself does not come back: nothing could be proven; "
        "see in the broker's log whether it holds producers back (memoryUsage, tempUsage in systemUsage)",
    ]
