"""The demo on an installation in which nobody may do more than he needs, and what its servers keep to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import Producer
from kazoo.exceptions import NoAuthError
from safe_site import BACK_END, DEVICES, OTHER, Site

from kalinka_jms.checks.connect import check
from kalinka_jms.checks.finding import Kind
from kalinka_jms.errors import RegistryError
from kalinka_jms.lab.demo import Demo, Place, Plan
from kalinka_jms.lab.stage import Lines
from kalinka_jms.ops.cluster import Cluster
from kalinka_jms.registry.zookeeper import Client, connect

pytestmark = pytest.mark.lab


def test_config_check_finds_nothing(site: Site) -> None:
    findings = list(check(site.settings()))
    assert [str(one) for one in findings if one.kind not in (Kind.FINE, Kind.NOTE)] == []
    told = [str(one) for one in findings if one.kind is Kind.NOTE]
    assert told == ["Kafka: note: there is one node only: while it is away nothing goes on; have three"]


def test_the_demo_loses_nothing(site: Site, tmp_path: Path) -> None:
    place = Place(
        brokers=site.brokers(),
        bootstrap=site.layout.bootstrap,
        config=site.config,
        logs=tmp_path / "logs",
        passwords=dict.fromkeys(DEVICES, site.password),
        login=site.kafka(BACK_END),
    )
    verdict = Demo(Plan(seconds=12, rate=10), place, Lines()).play()
    assert verdict.proven, verdict
    assert verdict.total.sent > 0
    assert {stream.source for stream in verdict.streams} == {*DEVICES, "sparkcluster"}


def test_a_user_of_kafka_without_rights_sees_no_topic_and_writes_none(site: Site) -> None:
    seen = Cluster(site.settings(OTHER)).look(["0.mqtt.mqtt"])
    assert (seen.topics, seen.refused) == ({}, {"0.mqtt.mqtt"})
    errors: list[KafkaCode | None] = []
    producer = Producer(site.kafka(OTHER) | {"acks": "all"})
    producer.produce("0.mqtt.mqtt", b"forged", b"beast", on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert [error.code() for error in errors if error] == [KafkaCode.TOPIC_AUTHORIZATION_FAILED]


def test_the_back_end_may_not_read_what_devices_say_to_each_other(site: Site) -> None:
    seen = Cluster(site.settings(BACK_END)).look(["0.mqtt.mqtt", "0.mqtt.sparkcluster"])
    assert (set(seen.topics), seen.refused) == ({"0.mqtt.sparkcluster"}, {"0.mqtt.mqtt"})


def test_nobody_reads_the_registry_but_kalinka(site: Site) -> None:
    with_rights = connect(site.settings().zookeeper)
    other = connect(site.settings(OTHER).zookeeper)
    try:
        with_rights.gather([lambda kazoo: kazoo.ensure_path_async("/kalinka/devices")])
        acl, _ = with_rights.gather([lambda kazoo: kazoo.get_acls_async("/kalinka/devices")])[0]
        assert [(one.id.scheme, one.id.id, one.perms) for one in acl] == [("sasl", "kalinka", 31)]
        assert refused(other)
        assert not refused(with_rights)
    finally:
        with_rights.stop()
        other.stop()


def refused(client: Client) -> bool:
    try:
        client.gather([lambda kazoo: kazoo.get_children_async("/kalinka/devices")])
    except RegistryError as error:
        return isinstance(error.__cause__, NoAuthError)
    return False


def test_zookeeper_wants_a_login(site: Site) -> None:
    anonymous = site.settings().zookeeper.model_copy(update={"auth": None})
    with pytest.raises(RegistryError):
        client = connect(anonymous, 5.0)
        try:
            client.gather([lambda kazoo: kazoo.get_children_async("/")], 5.0)
        finally:
            client.stop()
