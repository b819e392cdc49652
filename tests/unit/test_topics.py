"""Which topics a configuration needs, and what is to be done about them."""

from __future__ import annotations

from typing import Any

import pytest

from kalinka_jms.config.settings import Settings
from kalinka_jms.ops.cluster import Look, TopicState
from kalinka_jms.ops.topic_plan import Step, Wish, plan
from kalinka_jms.ops.topics import unnamed, wanted

ALL = ["0.mqtt.mqtt", "0.sparkcluster.mqtt", "0.parked", "0.mqtt.sparkcluster", "kalinka.dead"]


def settings(*groups: str, **more: Any) -> Settings:
    brokers = [{"name": f"b{n}", "stomp": f"stomp://b{n}:61613", "group": g} for n, g in enumerate(groups or ("0",))]
    servers = {"kafka": {"bootstrap.servers": "k:9092"}, "zookeeper": {"hosts": "z:2181"}}
    return Settings.model_validate({"brokers": brokers, **servers, **more})


def there(name: str, partitions: int = 6, replication: int = 3) -> TopicState:
    return TopicState(name, partitions, replication, replication, (), None)


def steps(*topics: TopicState, nodes: int = 3, own: Any = None, **wish: int) -> dict[str, Step]:
    found = {topic.name: topic for topic in topics}
    asked = Wish(**wish)
    return {s.topic.name: s for s in plan(wanted(settings()), Look(nodes, found, frozenset()), own or {}, asked)}


def test_the_topics_of_the_default_routes() -> None:
    assert [topic.name for topic in wanted(settings())] == ALL
    assert [topic.purpose for topic in wanted(settings())] == ["down", "down", "parked", "up", "dead"]


def test_every_group_has_its_own() -> None:
    names = [topic.name for topic in wanted(settings("1", "0", "1"))]
    assert len(names) == len(set(names)) == 9
    assert {"1.mqtt.mqtt", "1.sparkcluster.mqtt", "1.parked", "1.mqtt.sparkcluster"} < set(names)


def test_topics_that_only_messages_name_are_told_apart() -> None:
    routes = {"up": [{"from": "a/{kind}/{device}", "topic": "{group}.{kind}", "key": "{device}"}]}
    found = settings(routes=routes)
    assert unnamed(found) == ("{group}.{kind}",)
    assert [topic.purpose for topic in wanted(found)] == ["down", "down", "parked", "dead"]


def test_an_empty_cluster_gets_them_all() -> None:
    made = steps()
    assert [(s.action, s.partitions, s.replication) for s in made.values()] == [("create", 12, 3)] * 5
    assert made["0.parked"].settings == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": "2",
    }
    assert made["kalinka.dead"].settings == {"retention.ms": "-1", "min.insync.replicas": "2"}


def test_one_node_holds_one_copy() -> None:
    made = steps(nodes=1)
    assert {s.replication for s in made.values()} == {1}
    assert made["0.mqtt.mqtt"].settings == {}


def test_what_is_missing_in_a_group_is_made_as_the_rest_of_it() -> None:
    made = steps(there("0.mqtt.mqtt", 6), partitions=24)
    assert made["0.parked"].partitions == made["0.sparkcluster.mqtt"].partitions == 6
    assert made["kalinka.dead"].partitions == 24
    assert [one.text for one in made["0.mqtt.mqtt"].differences] == ["6 partitions, not 24"]


def test_what_is_there_and_fits_is_kept() -> None:
    made = steps(*map(there, ALL), own={"0.parked": {"cleanup.policy": "compact"}})
    assert {s.action for s in made.values()} == {"keep"}
    assert not any(s.differences for s in made.values())


@pytest.mark.parametrize(
    ("wrong", "own", "told"),
    [
        (there("0.parked", 3), {}, "3 partitions, not 6"),
        (there("0.parked"), {"cleanup.policy": "delete"}, "cleanup.policy=delete, not compact"),
        (there("0.parked", replication=1), {}, "replication 1, not 3"),
    ],
)
def test_what_is_there_with_other_numbers_is_said(wrong: TopicState, own: dict[str, str], told: str) -> None:
    others = [there(name) for name in ALL if name != wrong.name]
    step = steps(wrong, *others, own={wrong.name: own}, replication=3)[wrong.name]
    assert (step.action, [one.text for one in step.differences]) == ("keep", [told])
