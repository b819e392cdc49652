"""The way of a message or record: the same that the services decide, with every reason."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.config import Broker, DownRoute, Settings, UpRoute, Zookeeper
from kalinka_jms.config.settings import DEFAULT_DOWN, DEFAULT_UP, Pub, Routes, Sub
from kalinka_jms.lab.layout import parse_ports
from kalinka_jms.lab.servers import broker_xml
from kalinka_jms.murmur2 import place
from kalinka_jms.names import FORBIDDEN, refusal
from kalinka_jms.ops.explain import FORWARDED, Explainer, Way, partition
from kalinka_jms.ops.explain_text import EVIDENCE, VALUE, as_text

ids = st.text(st.characters(codec="utf-8", exclude_characters=FORBIDDEN + "\x00"), min_size=1, max_size=20).filter(
    lambda id: refusal(id) is None
)
BURIED = "it goes to kalinka.dead, byte for byte, with this reason in the header kalinka.reason"


def configured(groups: str = "0", **more: object) -> Settings:
    """One broker for each character of `groups`."""
    brokers = [Broker(name=f"dev{n}", stomp=f"stomp://h{n}:1", group=group) for n, group in enumerate(groups, 1)]
    tables = {"kafka": {"bootstrap.servers": "h:1"}, "zookeeper": Zookeeper(hosts="h:1"), "brokers": brokers}
    return Settings.model_validate(tables | more)


def explained(topic: str, groups: str = "0", **more: object) -> Way:
    return Explainer(configured(groups, **more), lambda _: 12).message(topic)


@given(source=ids, device=ids, groups=st.sampled_from(["0", "01", "aabc"]))
def test_a_message_from_device_to_device(source: str, device: str, groups: str) -> None:
    way = explained(f"mqtt/{source}/mqtt/{device}/pub", groups)
    assert way.refusal is None
    assert way.queue and way.up and way.record and way.down
    assert (way.queue.name, way.up.route, way.down.route) == ("kalinka.mqtt.pub", 0, 0)
    assert way.up.captured == {"source": source, "device": device}
    assert way.record.topic == f"{way.up.group}.mqtt.mqtt"
    assert way.record.partition.number == place(device.encode(), 12)
    assert (way.down.group, way.down.parked) == (way.up.group, f"{way.up.group}.parked")
    assert way.down.topic == f"mqtt/{source}/mqtt/{device}/sub"
    assert way.down.listens == f"mqtt/+/mqtt/{device}/sub"
    assert way.down.brokers == tuple(f"dev{n}" for n in range(1, len(groups) + 1))
    json.dumps(asdict(way))


@given(text=st.text(max_size=40), key=st.binary(max_size=20), source=st.none() | st.text(max_size=70))
def test_nothing_that_can_be_typed_raises(text: str, key: bytes, source: str | None) -> None:
    routes = Routes(up=DEFAULT_UP, down=(DEFAULT_DOWN[1], DEFAULT_DOWN[0].model_copy(update={"envelope": "reference"})))
    explainer = Explainer(configured("01", routes=routes))
    for way in (
        explainer.message(text),
        explainer.message(f"mqtt/{text}/mqtt/x/pub"),
        explainer.record("0.sparkcluster.mqtt", key, source, [("h", key)]),
        explainer.record("1.mqtt.mqtt", key, source),
        explainer.record(text, key),
    ):
        assert as_text(way)
        json.dumps(asdict(way))


def test_a_message_for_the_back_end_has_no_device() -> None:
    way = explained("mqtt/beast/sparkcluster/pub")
    assert way.record and (way.record.topic, way.record.key) == ("0.mqtt.sparkcluster", "beast")
    assert (way.down, way.refusal, way.notes) == (None, None, ())
    assert "no device: no down route reads this topic, it is for consumers of Kafka" in as_text(way)


def test_the_group_says_how_it_was_chosen() -> None:
    one = explained("mqtt/a/mqtt/b/pub")
    assert one.up and (one.up.group, one.up.group_rule) == ("0", "the only one")
    two = explained("mqtt/a/mqtt/b/pub", "01")
    assert two.up and two.up.group_rule == "groups[crc32(b) % 2]"
    by_source = DEFAULT_UP[0].model_copy(update={"group_by": "source"})
    java = explained("mqtt/sabretooth/mqtt/b/pub", "01", routes=Routes(up=(by_source,)))
    assert java.up and (java.up.group, java.up.group_rule) == ("1", "groups[(murmur2(sabretooth) & 0x7fffffff) % 2]")


def test_a_topic_without_a_group_has_none() -> None:
    way = explained("a/b", "01", routes=Routes(up=(UpRoute(from_="a/{device}", topic="t", key="{device}"),)))
    assert way.up and (way.up.group, way.up.group_rule) == (None, "its topic names no group")


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("mqtt/be.ast/mqtt/wolverine/pub", "source 'be.ast': the id contains \".\""),
        ("mqtt/beast/mqtt/kalinka-canary/pub", "device 'kalinka-canary': the id is reserved for Kalinka"),
        ("mqtt/beast/mqtt//pub", "device '': the id is empty"),
        ("mqtt/\udcff/mqtt/x/pub", "the MQTT topic is not UTF-8"),
    ],
)
def test_a_refused_message_says_why_and_what_becomes_of_it(topic: str, reason: str) -> None:
    way = explained(topic)
    assert way.refusal and (way.refusal.at, way.refusal.reason, way.refusal.then) == ("up", reason, BURIED)
    assert (way.record, way.down) == (None, None)


def test_a_topic_that_no_queue_takes_is_not_seen_at_all() -> None:
    way = explained("mqtt/beast")
    assert way.refusal and way.refusal.reason == "no route for the MQTT topic 'mqtt/beast'"
    assert way.refusal.then == f"Kalinka never sees it, unless the broker forwards it: then {BURIED}"
    assert way.notes == (
        "no queue in [pub] queues is known to take it: the broker must forward mqtt.beast into one of them",
    )


def test_a_source_too_long_for_the_envelope_is_refused_on_its_way_up() -> None:
    up = DEFAULT_UP[0].model_copy(update={"envelope": "reference"})
    way = explained(f"mqtt/{'x' * 60}/mqtt/b/pub", routes=Routes(up=(up,)))
    assert way.refusal and way.refusal.reason == "the source does not fit into the 64 bytes of the envelope"


@pytest.mark.parametrize(
    ("queue", "kind", "pattern"),
    [
        ("VirtualTopicConsumers.KafkaConsumer.mqtt.*.mqtt.*.pub", "virtual topic", "mqtt.*.mqtt.*.pub"),
        ("Consumer.kalinka.mqtt.>", "virtual topic", "mqtt.>"),
        ("kalinka.mqtt.pub", "composite topic", "mqtt.*.mqtt.*.pub"),
    ],
)
def test_the_queue_is_known_by_its_name(queue: str, kind: str, pattern: str) -> None:
    way = explained("mqtt/a/mqtt/b/pub", pub=Pub(queues=("other", queue)))
    assert way.queue and (way.queue.name, way.queue.kind, way.queue.pattern) == (queue, kind, pattern)


def test_of_another_queue_only_the_broker_knows() -> None:
    way = explained("mqtt/a/mqtt/b/pub", pub=Pub(queues=("other",)))
    assert (way.queue, way.notes) == (None, ("which queue takes it stands only in the broker's configuration",))


def test_the_queues_are_those_of_the_brokers_template() -> None:
    xml = broker_xml("dev1", "h", "/d", parse_ports([]))
    for queue, pattern in FORWARDED.items():
        assert f'<compositeTopic name="{pattern}"' in xml
        assert xml.index(f'<compositeTopic name="{pattern}"') < xml.index(f'<forwardTo><queue physicalName="{queue}"')
    assert tuple(FORWARDED) == Pub().queues


def test_a_record_of_a_plain_producer() -> None:
    way = Explainer(configured()).record("0.sparkcluster.mqtt", b"wolverine")
    assert way.down and way.refusal is None
    assert (way.down.topic, way.down.source, way.down.qos) == ("sparkcluster/mqtt/wolverine/sub", "kafka", 1)
    assert (way.down.id, way.down.hops) == ("<topic>/<partition>/<offset>", 0)
    assert way.record and (way.record.partition.number, way.record.partition.count) == (None, None)
    assert "partition  (murmur2(key) & 0x7fffffff) % partitions; give --partitions to see which" in as_text(way)


def test_the_headers_of_a_record_count() -> None:
    headers = [("mqtt.qos", b"0"), ("kalinka.hops", b"2"), ("kalinka.id", b"dev1/x")]
    way = Explainer(configured()).record("0.mqtt.mqtt", b"wolverine", "beast", headers)
    assert way.down and way.down.topic == "mqtt/beast/mqtt/wolverine/sub"
    assert (way.down.qos, way.down.hops, way.down.id) == (0, 2, "dev1/x")


@pytest.mark.parametrize(
    ("key", "headers", "reason"),
    [
        (b"", (), "device b'': the id is empty"),
        (b"\xff", (), "device b'\\xff': the id is not UTF-8"),
        (b"x", [("mqtt.qos", b"7")], "the header mqtt.qos is b'7': should be 0, 1 or 2"),
        (b"x", [("kalinka.source", b"a+b")], "source 'a+b': the id contains \"+\""),
    ],
)
def test_a_refused_record(key: bytes, headers: list[tuple[str, bytes]], reason: str) -> None:
    way = Explainer(configured()).record("0.mqtt.mqtt", key, headers=headers)
    assert way.refusal and (way.refusal.at, way.refusal.reason, way.refusal.then) == ("down", reason, BURIED)


def test_the_envelope_holds_the_source_of_a_record() -> None:
    routes = Routes(down=(DEFAULT_DOWN[0].model_copy(update={"envelope": "reference"}),))
    explainer = Explainer(configured(routes=routes))
    way = explainer.record("0.mqtt.mqtt", b"wolverine", "beast")
    assert way.down and way.down.topic == "mqtt/beast/mqtt/wolverine/sub"
    assert way.record and (way.record.envelope, way.record.headers) == ("reference", ())
    silent = explainer.record("0.mqtt.mqtt", b"wolverine")
    assert silent.refusal
    assert silent.refusal.reason == "the source stands in the first 64 bytes of the value: say which with --source"


@pytest.mark.parametrize(
    ("topic", "then"),
    [
        ("0.parked", "Kalinka keeps this topic for itself"),
        ("kalinka.dead", "Kalinka keeps this topic for itself"),
        ("x", "Kalinka does not read it: it stays for whoever does; read are 0.mqtt.mqtt, 0.sparkcluster.mqtt"),
    ],
)
def test_a_topic_that_no_down_route_reads(topic: str, then: str) -> None:
    way = Explainer(configured()).record(topic, b"x")
    assert way.refusal and (way.refusal.reason, way.refusal.then) == (f"no route for the Kafka topic {topic}", then)


def test_brokers_of_groups_that_others_serve_are_reached_by_hand_over() -> None:
    way = Explainer(configured("001", sub=Sub(groups=("0",)))).record("0.sparkcluster.mqtt", b"x")
    assert way.down and way.down.brokers == ("dev1", "dev2")
    assert way.notes == ("a device on a broker of another group is handed over through Kafka, at most 3 times",)


def test_a_group_that_this_file_does_not_serve_is_noted() -> None:
    way = Explainer(configured("01", sub=Sub(groups=("0",)))).record("1.sparkcluster.mqtt", b"x")
    assert way.down and way.down.brokers == ("dev2",)
    assert way.notes == (
        "`kalinka sub` with this file does not serve group 1: another one must",
        "a device on a broker of another group is handed over through Kafka, at most 3 times",
    )


def test_the_routes_own_time_counts() -> None:
    down = DownRoute(from_="{group}.x", to="x/{device}", ack_timeout=3.0, qos=2)
    way = Explainer(configured(routes=Routes(down=(down,)))).record("0.x", b"d")
    assert way.down and (way.down.ack_timeout, way.down.qos, way.down.listens) == (3.0, 2, "x/d")


def test_every_delivery_and_envelope_has_its_words() -> None:
    assert set(EVIDENCE) >= {route.delivery for route in DEFAULT_DOWN}
    assert set(VALUE) == {"plain", "reference"}


@pytest.mark.parametrize(
    ("partitioner", "number", "rule"),
    [
        ("murmur2_random", place(b"beast", 6), "(murmur2(key) & 0x7fffffff) % partitions"),
        ("murmur2", place(b"beast", 6), "(murmur2(key) & 0x7fffffff) % partitions"),
        ("consistent_random", 2, "crc32(key) % partitions"),
        ("fnv1a", None, 'as the partitioner "fnv1a" chooses'),
    ],
)
def test_the_partition_is_that_of_the_partitioner(partitioner: str, number: int | None, rule: str) -> None:
    found = partition(b"beast", 6, partitioner)
    assert (found.number, found.count, found.rule) == (number, 6, rule)
