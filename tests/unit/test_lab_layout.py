"""What a lab consists of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab.layout import (
    Layout,
    Ports,
    default_layout,
    default_state,
    from_json,
    parse_address,
    parse_ports,
    parse_profile,
)

STATE = Path("/somewhere")


def test_small_is_three_brokers_one_kafka_and_one_zookeeper() -> None:
    names = [service.name for service in Layout(STATE).services]
    assert names == ["dev1.activemq", "dev2.activemq", "dev3.activemq", "dev1.kafka", "dev1.zookeeper"]


def test_full_is_three_of_each_and_replicated() -> None:
    layout = Layout(STATE, "full")
    assert len(layout.services) == 9
    assert layout.replication == 3
    assert layout.bootstrap == "127.0.33.20:9092,127.0.33.21:9092,127.0.33.22:9092"
    assert layout.zookeeper == "127.0.33.20:2181,127.0.33.21:2181,127.0.33.22:2181"


def test_the_usual_addresses_and_ports() -> None:
    broker = Layout(STATE).service("dev3.activemq")
    assert (broker.address, broker.port) == ("127.0.33.22", 1883)
    assert broker.ports == {"mqtt": 1883, "stomp": 61613, "openwire": 61616}
    assert Layout(STATE).service("dev1.kafka").port == 9092
    assert Layout(STATE).service("dev1.zookeeper").ports == {"zookeeper": 2181}


def test_no_two_servers_share_a_port() -> None:
    services = Layout(STATE, "full").services
    places = [(service.address, port) for service in services for port in service.ports.values()]
    assert len(places) == len(set(places))


def test_an_unknown_service_is_refused_with_those_there_are() -> None:
    with pytest.raises(LabError, match=r"no dev2\.kafka in a small lab; it has .*dev1\.kafka"):
        Layout(STATE).service("dev2.kafka")


@pytest.mark.parametrize("profile", ["small", "full"])
def test_a_layout_survives_json(profile: str) -> None:
    layout = Layout(STATE, parse_profile(profile), "10.1.2.3", parse_ports(["mqtt=1884"]))
    assert from_json(STATE, json.loads(json.dumps(layout.to_json()))) == layout


def test_ports_are_named() -> None:
    assert parse_ports(["mqtt=1884", "kafka=19092"]) == Ports(mqtt=1884, kafka=19092)


@pytest.mark.parametrize("item", ["mqtt", "mqtt=", "mqtt=x", "mqtt=0", "mqtt=65536", "amqp=5672", "=1"])
def test_a_bad_port_is_refused(item: str) -> None:
    with pytest.raises(LabError, match="NAME=NUMBER"):
        parse_ports([item])


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0", "255.255.255.254", "::1"])
def test_a_bad_address_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="IPv4"):
        parse_address(text)


def test_a_bad_profile_is_refused() -> None:
    with pytest.raises(LabError, match="small or full"):
        parse_profile("large")


def test_the_environment_chooses_directory_address_and_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KALINKA_LAB_STATE", str(tmp_path / "x"))
    monkeypatch.setenv("KALINKA_LAB_ADDRESS", "127.0.99.1")
    monkeypatch.setenv("KALINKA_LAB_PORTS", "mqtt=1884,stomp=61614")
    layout = default_layout(default_state())
    assert layout == Layout(tmp_path / "x", "small", "127.0.99.1", Ports(mqtt=1884, stomp=61614))


def test_the_directory_is_in_the_users_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KALINKA_LAB_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state() == tmp_path / "kalinka" / "lab"
