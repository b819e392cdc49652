"""The files that the lab's servers are started with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kalinka_jms.config import load
from kalinka_jms.lab import configuration, servers
from kalinka_jms.lab.jars import versions
from kalinka_jms.lab.layout import Layout, Ports, Service
from kalinka_jms.lab.servers import Runtime, broker_xml, prepare

CORE = "{http://activemq.apache.org/schema/core}"


def broker(device: bool = False) -> ElementTree.Element:
    return ElementTree.fromstring(broker_xml("dev1", "10.0.0.5", "/data", Ports(), device))


def one(name: str, root: ElementTree.Element) -> ElementTree.Element:
    found = root.findall(f".//{CORE}{name}")
    assert len(found) == 1
    return found[0]


def policies(root: ElementTree.Element) -> dict[str, dict[str, str]]:
    return {entry.attrib["topic"]: entry.attrib for entry in root.iter(f"{CORE}policyEntry")}


def test_the_broker_forwards_what_devices_publish_into_queues_that_exist() -> None:
    root = broker()
    forwards = {
        topic.attrib["name"]: next(topic.iter(f"{CORE}queue")).attrib["physicalName"]
        for topic in root.iter(f"{CORE}compositeTopic")
        if topic.attrib["forwardOnly"] == "true"
    }
    assert forwards == {"mqtt.*.mqtt.*.pub": "kalinka.mqtt.pub", "mqtt.*.sparkcluster.pub": "kalinka.sparkcluster.pub"}
    declared = {queue.attrib["physicalName"] for queue in one("destinations", root)}
    assert declared == set(forwards.values())


def test_the_broker_tells_of_absence_and_keeps_no_idle_topic() -> None:
    found = policies(broker())
    for topic in ("mqtt.*.mqtt.*.sub", "sparkcluster.mqtt.*.sub"):
        assert found[topic]["sendAdvisoryIfNoConsumers"] == "true"
        assert "advisoryForConsumed" not in found[topic]
    idle = {topic for topic, settings in found.items() if settings.get("gcInactiveDestinations") == "true"}
    assert idle == set(found) - {"ActiveMQ.Advisory.>"}


def test_what_a_device_costs_does_not_grow_with_every_link_that_writes_to_it() -> None:
    found = policies(broker())
    for topic in ("mqtt.*.mqtt.*.sub", "sparkcluster.mqtt.*.sub"):
        assert found[topic]["enableAudit"] == "false"


def test_delivery_device_adds_its_advisories_without_payloads() -> None:
    settings = policies(broker(device=True))["mqtt.*.mqtt.*.sub"]
    assert settings["advisoryForConsumed"] == settings["advisoryForDispatched"] == "true"
    assert settings["includeBodyForAdvisory"] == "false"


def test_the_connectors_listen_where_they_should_and_survive_slow_clients() -> None:
    uris = {
        connector.attrib["name"]: connector.attrib["uri"] for connector in broker().iter(f"{CORE}transportConnector")
    }
    assert uris["mqtt"].startswith("mqtt+nio://10.0.0.5:1883?")
    for setting in ("defaultKeepAlive=60000", "soWriteTimeout=10000", "activeMQSubscriptionPrefetch=100"):
        assert f"transport.{setting}" in uris["mqtt"]
    assert uris["stomp"].startswith("stomp+nio://10.0.0.5:61613?")
    assert "transport.tcpNoDelay=true" in uris["stomp"]


def test_a_device_that_connects_during_the_start_adds_no_service_to_those_being_started() -> None:
    beans = {bean.attrib["class"] for bean in one("services", broker())}
    assert beans == {"org.apache.activemq.transport.mqtt.MQTTPacketIdGenerator"}


def test_nothing_lets_a_message_vanish() -> None:
    text = re.sub(r"<!--.*?-->", "", broker_xml("dev1", "0.0.0.0", "/data", Ports()), flags=re.DOTALL)
    assert "sendFailIfNoSpace" not in text
    assert "pendingMessageLimitStrategy" not in text
    assert 'journalDiskSyncStrategy="always"' in text


def test_names_of_any_kind_stay_well_formed_xml() -> None:
    root = ElementTree.fromstring(broker_xml('a"<&>', "::1", "/x y/&", Ports()))
    assert one_broker(root).attrib["brokerName"] == 'a"<&>'
    assert one_broker(root).attrib["dataDirectory"] == "/x y/&"


def one_broker(root: ElementTree.Element) -> ElementTree.Element:
    found = root.find(f"{CORE}broker")
    assert found is not None
    return found


def test_every_version_of_a_pom_is_given_and_used() -> None:
    for kind, numbers in versions().items():
        pom = (files("kalinka_jms.lab") / "poms" / f"{kind}.xml").read_text()
        assert set(re.findall(r"\$\{([^}]+)\}", pom)) == set(numbers)


@pytest.mark.parametrize("profile", ["small", "full"])
def test_the_configuration_is_one_that_the_services_accept(tmp_path: Path, profile: str) -> None:
    layout = Layout(tmp_path, "full" if profile == "full" else "small")
    file = tmp_path / "kalinka.toml"
    file.write_text(configuration.toml(layout))
    settings = load(file)
    assert [broker.name for broker in settings.brokers] == ["dev1", "dev2", "dev3"]
    assert settings.kafka["bootstrap.servers"] == layout.bootstrap
    assert settings.zookeeper.hosts == layout.zookeeper


@pytest.fixture
def formatted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories that Kafka's tool would have formatted."""
    done: list[Path] = []
    monkeypatch.setattr(servers, "_format", lambda directory, *_: done.append(directory))
    return done


def written(layout: Layout, service: Service) -> tuple[Sequence[str], dict[str, str]]:
    command = prepare(layout, service, Runtime("/java", Path("/jars")))
    lines = Path(command[-1]).read_text().splitlines()
    return command, dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_every_server_has_a_bounded_heap_and_carries_its_name(tmp_path: Path, formatted: list[Path]) -> None:
    layout = Layout(tmp_path)
    for service in layout.services:
        command = prepare(layout, service, Runtime("/java", Path("/jars")))
        assert any(word.startswith("-Xmx") for word in command)
        assert f"-Dkalinka.lab={tmp_path}" in command and f"-Dkalinka.service={service.name}" in command
    assert formatted == [layout.directory(layout.service("dev1.kafka"))]


def test_a_small_kafka_stands_alone(tmp_path: Path, formatted: list[Path]) -> None:
    layout = Layout(tmp_path)
    _, settings = written(layout, layout.service("dev1.kafka"))
    assert settings["controller.quorum.voters"] == "1@127.0.33.20:9093"
    assert settings["min.insync.replicas"] == settings["offsets.topic.replication.factor"] == "1"
    assert settings["group.initial.rebalance.delay.ms"] == "0"
    assert settings["transaction.abort.timed.out.transaction.cleanup.interval.ms"] == "1000"


def test_a_full_kafka_survives_one_node(tmp_path: Path, formatted: list[Path]) -> None:
    layout = Layout(tmp_path, "full")
    _, settings = written(layout, layout.service("dev2.kafka"))
    assert settings["node.id"] == "2"
    assert settings["controller.quorum.voters"].count("@") == 3
    assert (settings["default.replication.factor"], settings["min.insync.replicas"]) == ("3", "2")
    assert (settings["transaction.state.log.replication.factor"], settings["transaction.state.log.min.isr"]) == (
        "3",
        "2",
    )


def test_a_zookeeper_ensemble_knows_its_members(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "full")
    _, settings = written(layout, layout.service("dev3.zookeeper"))
    assert settings["server.1"] == "127.0.33.20:2888:3888"
    assert (layout.directory(layout.service("dev3.zookeeper")) / "data" / "myid").read_text() == "3\n"
    _, alone = written(Layout(tmp_path), Layout(tmp_path).service("dev1.zookeeper"))
    assert "server.1" not in alone
