"""The configuration of docs/coming-from-java.md against what the Java kalinka wrote and read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import Message

from kalinka_jms.config import Settings, load
from kalinka_jms.ops.explain import Explainer
from kalinka_jms.pub import outbox, session
from kalinka_jms.pub.pub import Pub
from kalinka_jms.sub import backlog, commits, outlet, sub
from kalinka_jms.testing import FakeBroker, FakeBrokers, FakeKafka
from kalinka_jms.testing.queues import FORWARDS
from kalinka_jms.testing.registry import FakeRegistry

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-java.md"
QUEUES = {
    "mqtt.*.mqtt.*.pub": "VirtualTopicConsumers.KafkaConsumer.mqtt.*.mqtt.*.pub",
    "mqtt.*.sparkcluster.pub": "VirtualTopicConsumers.KafkaConsumer.mqtt.*.sparkcluster.pub",
}
PATIENCE = 60.0
GROUPS = {"beast": "0", "cyclops": "0", "wolverine": "0", "sabretooth": "1", "jean": "1", "mystique": "1"}
"""Sources, and the logical partition of two that the Java kalinka's own test expects for them."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("java") / "kalinka.toml"
    file.write_text(PAGE.read_text().split("```toml\n", 1)[1].split("```", 1)[0])
    return load(file)


class World:
    """The page's brokers, Kafka with three partitions a topic, and who listens where."""

    def __init__(self, settings: Settings) -> None:
        self.brokers = FakeBrokers(*(broker.name for broker in settings.brokers))
        self.kafka = FakeKafka(partitions=3)
        self.registry = FakeRegistry()

    def __getitem__(self, broker: str) -> FakeBroker:
        return self.brokers[broker]

    def values(self, topic: str) -> list[Message]:
        return self.kafka.records(topic)


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with ExitStack() as stack, patch.dict(FORWARDS, QUEUES):
        made = World(settings)
        for target, name, value in (
            (session, "Link", made.brokers),
            (outbox, "producer", made.kafka.producer),
            (outlet, "Link", made.brokers),
            (sub, "consumer", made.kafka.consumer),
            (commits, "producer", made.kafka.producer),
            (backlog, "consumer", made.kafka.consumer),
            (backlog, "AdminClient", made.kafka.admin),
            (sub, "Owners", lambda client, root, on_change: made.registry.owners(on_change)),
        ):
            stack.enter_context(patch.object(target, name, value))
        yield made


@pytest.fixture
def running_pub(settings: Settings, world: World) -> Iterator[None]:
    instance = Pub(settings)
    instance.start()
    yield
    instance.stop()
    instance.join()


@pytest.fixture
def running_sub(settings: Settings, world: World) -> Iterator[None]:
    for group in settings.groups:
        for topic in ("mqtt.mqtt", "sparkcluster.mqtt", "parked"):
            world.kafka.create(f"{group}.{topic}")
    client: Any = None
    instance = sub.Sub(settings, client)
    instance.start()
    yield
    instance.stop()
    instance.join(20)
    assert instance.failure is None


def enveloped(source: str, payload: bytes) -> bytes:
    """As the Java kalinka writes it."""
    return f'{{"srcId": "{source}"}}'.encode().ljust(64, b"\0") + payload


def opened(value: bytes) -> tuple[str, bytes]:
    """As the Java kalinka reads it: Jackson takes the first JSON value, and stops there."""
    source, _ = json.JSONDecoder().raw_decode(value[:64].decode())
    return source["srcId"], value[64:]


def test_what_it_reads(settings: Settings) -> None:
    assert settings.groups == settings.served == ("0", "1")
    assert settings.sub.consumer_group == "kalinka"
    assert not settings.zookeeper.root.startswith("/activemq")
    assert settings.pub.queues == tuple(QUEUES.values())
    explainer = Explainer(settings)
    for topic, queue in (("mqtt/a/mqtt/b/pub", 0), ("mqtt/a/sparkcluster/pub", 1)):
        found = explainer.message(topic).queue
        assert found and found.name == settings.pub.queues[queue]


@pytest.mark.usefixtures("running_pub")
def test_up_each_source_has_its_topics_and_only_device_to_device_an_envelope(world: World) -> None:
    for number, source in enumerate(GROUPS, 1):
        device = world[f"dev{number % 3 + 1}"].device(source)
        device.publish(f"mqtt/{source}/mqtt/iceman/pub", b"\0to a device")
        device.publish(f"mqtt/{source}/sparkcluster/pub", b"\0to the back end")
    topics = [f"{group}.mqtt.{to}" for group in "01" for to in ("mqtt", "sparkcluster")]
    assert world.kafka.wait(lambda: sum(len(world.values(topic)) for topic in topics) == 12, PATIENCE)
    for group in "01":
        sources = {source for source, its in GROUPS.items() if its == group}
        to_devices = [(record.key(), opened(record.value() or b"")) for record in world.values(f"{group}.mqtt.mqtt")]
        assert sorted(to_devices) == sorted((b"iceman", (source, b"\0to a device")) for source in sources)
        to_back_end = [(record.key(), record.value()) for record in world.values(f"{group}.mqtt.sparkcluster")]
        assert sorted(to_back_end) == sorted((source.encode(), b"\0to the back end") for source in sources)


@pytest.mark.usefixtures("running_sub")
def test_down_one_instance_serves_both_groups_on_every_broker(world: World) -> None:
    """Whatever its group, a record reaches the device where it is, without a hand-over, at QoS 0."""
    devices = {name: world[name].device(f"at-{name}") for name in ("dev1", "dev2", "dev3")}
    for broker in devices:
        world.registry.listen(f"at-{broker}", broker)
        for group in "01":
            world.kafka.send(f"{group}.mqtt.mqtt", enveloped("beast", b"\0x"), f"at-{broker}".encode())
            world.kafka.send(f"{group}.sparkcluster.mqtt", b"\0y", f"at-{broker}".encode())
    for broker, device in devices.items():
        assert world[broker].wait(lambda device=device: len(device.received) == 4, PATIENCE)
        assert {(one.topic, one.payload, one.headers["ActiveMQ.MQTT.QoS"]) for one in device.received} == {
            (f"mqtt/beast/mqtt/at-{broker}/sub", b"\0x", "0"),
            (f"sparkcluster/mqtt/at-{broker}/sub", b"\0y", "0"),
        }
    assert not world.values("0.parked") and not world.values("1.parked") and not world.values("kalinka.dead")


@pytest.mark.usefixtures("running_sub")
def test_the_offsets_are_those_of_its_group(world: World) -> None:
    world.registry.listen("wolverine", "dev1")
    world["dev1"].device("wolverine")
    partition, offset = world.kafka.send("1.mqtt.mqtt", enveloped("beast", b"x"), b"wolverine")
    assert world.kafka.wait(lambda: world.kafka.committed("kalinka", "1.mqtt.mqtt", partition) == offset + 1, PATIENCE)


@pytest.mark.usefixtures("running_sub")
def test_what_was_dropped_is_parked(world: World) -> None:
    partition, _ = world.kafka.send("1.sparkcluster.mqtt", b"x", b"wolverine")
    assert world.kafka.wait(lambda: len(world.kafka.records("1.parked", partition)) == 1, PATIENCE)
