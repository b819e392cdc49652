"""`kalinka status`: what is asked, what is found wrong, and that whoever does not answer is a sentence."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from downlink import Bench, record
from kalinka_cli.main import app
from prometheus_client import CollectorRegistry
from test_health import NOW, One
from typer.testing import CliRunner

from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, KafkaError, LinkLost, RegistryError
from kalinka_jms.health import Health
from kalinka_jms.metrics import process
from kalinka_jms.metrics.collector import Samples
from kalinka_jms.metrics.server import serving
from kalinka_jms.ops import status
from kalinka_jms.ops.cluster import GroupState, Member
from kalinka_jms.ops.fleet import BrokerView, Links
from kalinka_jms.ops.status import Installation, InstanceView, KafkaView, TopicView, findings, look
from kalinka_jms.registry.beacon import Beacon, addresses
from kalinka_jms.testing.zookeeper import FakeZooKeeper

VIEW = BrokerView("dev1", "0", "stomp://b:1", "up", "host/1", 1, ("a", "b"), "a", 7, Links(2, 1, 1))
GROUP = GroupState("stable", (Member("m", "h", {"0.mqtt.mqtt": (0, 1)}),), None)
KAFKA = KafkaView(GROUP, (TopicView("0.mqtt.mqtt", "down", 100, 3), TopicView("kalinka.dead", "dead", 2, None)), ())
INSTANCE = InstanceView("bridge1:9464", "", (("pub", True), ("sub", True)), True, (), 1, 2, 0.5, 3)
WELL = Installation((VIEW,), KAFKA, (("dev1", ""),), (INSTANCE,), ())


def settings() -> Settings:
    return Settings.model_validate(
        {
            "brokers": [{"name": "dev1", "stomp": "stomp://127.0.0.1:1"}],
            "kafka": {"bootstrap.servers": "127.0.0.1:1"},
            "zookeeper": {"hosts": "127.0.0.1:1"},
        }
    )


def test_nothing_is_wrong_where_all_is_well() -> None:
    assert findings(WELL) == []
    assert findings(Installation(None, None, (), (), ("Kafka is away",))) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (replace(WELL, brokers=(replace(VIEW, state="down"),)), "dev1 is down in the registry"),
        (replace(WELL, brokers=(replace(VIEW, watcher=None),)), "nobody watches who listens on dev1"),
        (replace(WELL, brokers=(replace(VIEW, pub=()),)), "no instance of kalinka pub is subscribed on dev1"),
        (replace(WELL, brokers=(replace(VIEW, links=Links(1, 0, 1)),)), "no instance of kalinka sub serves dev1"),
        (replace(WELL, kafka=replace(KAFKA, missing=("0.parked",))), "the topic 0.parked does not exist"),
        (replace(WELL, kafka=replace(KAFKA, group=replace(GROUP, members=()))), "no instance of kalinka sub runs"),
        (replace(WELL, instances=(replace(INSTANCE, ready=(("pub", False),)),)), "bridge1:9464: pub is not ready"),
        (replace(WELL, instances=(replace(INSTANCE, healthy=False),)), "bridge1:9464: a thread stands still"),
        (replace(WELL, instances=(replace(INSTANCE, links_down=("dev1 (sub)",)),)), "no link to dev1 (sub)"),
        (replace(WELL, instances=(replace(INSTANCE, faults=("up dev1: 5",)),)), "the ledger is broken: up dev1: 5"),
    ],
)
def test_what_is_wrong_is_a_sentence(found: Installation, sentence: str) -> None:
    (only,) = findings(found)
    assert sentence in only


def test_whoever_does_not_answer_is_named_and_the_others_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(error: Exception) -> Any:
        def raising(*_: object, **__: object) -> Any:
            raise error

        return raising

    monkeypatch.setattr(status, "Cluster", refuse(KafkaError("Kafka at k:1 is away")))
    monkeypatch.setattr(status, "connect", refuse(RegistryError("ZooKeeper cannot be reached")))
    monkeypatch.setattr(status.Link, "connect", refuse(LinkLost("dev1: refused")))
    found = look(settings(), ["127.0.0.1:1"])
    assert (found.brokers, found.kafka, found.links) == (None, None, (("dev1", "dev1: refused"),))
    assert found.away[:3] == ("Kafka at k:1 is away", "ZooKeeper cannot be reached", "dev1: refused")
    assert found.away[3] == "127.0.0.1:1: its metrics cannot be read: Connection refused"


def test_an_instance_is_read_by_its_metrics() -> None:
    bench, registry = Bench(), CollectorRegistry()
    bench.open()
    bench.up("b1")
    bench.take(record(0), record(1, "d2"))
    bench.scrape()
    health = Health([One("sub"), One("pub", waiting_for=("the broker dev2",))], lambda: NOW)
    registry.register(Samples(lambda: process.samples(health, True), bench.figures.samples))
    with serving(("127.0.0.1", 0), health, registry) as (host, port):
        view = status._instance(f"{host}:{port}")
    assert view.ready == (("sub", True), ("pub", False)) and view.healthy and view.faults == ()
    assert (view.links_down, view.in_flight_down) == (("b2 (sub)",), 2)


def test_what_is_no_kalinka_is_an_instance_that_cannot_be_read() -> None:
    with serving(("127.0.0.1", 0), Health([]), CollectorRegistry()) as (host, port):
        assert status._instance(f"{host}:{port}/nowhere").error == "its metrics cannot be read: Not Found"


def test_instances_tell_in_zookeeper_where_they_serve_their_metrics() -> None:
    zookeeper = FakeZooKeeper()
    zookeeper.ensure("/kalinka/devices")
    one, other = zookeeper.client(), zookeeper.client()
    assert addresses(one, "/kalinka/devices", 1.0) == []
    v6 = Beacon(one, "/kalinka/devices", ("::1", 1), ["pub"])
    anywhere = Beacon(other, "/kalinka/devices", ("0.0.0.0", 2), ["sub"])
    for beacon in (v6, anywhere, v6):
        beacon.say()
    assert addresses(one, "/kalinka/devices", 1.0) == sorted(["[::1]:1", f"{socket.gethostname()}:2"])
    other.expire()
    assert addresses(one, "/kalinka/devices", 1.0) == ["[::1]:1"]
    anywhere.say()  # nobody answers: nothing happens
    other.reconnect()
    anywhere.say()
    assert len(addresses(one, "/kalinka/devices", 1.0)) == 2, "said again in the next session"


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: Installation, *options: str) -> Any:
    config = tmp_path / "kalinka.toml"
    config.write_text(
        '[[brokers]]\nname = "dev1"\nstomp = "stomp://b:1"\n[kafka]\n"bootstrap.servers" = "k:1"\n'
        '[zookeeper]\nhosts = "z:1"\n'
    )
    monkeypatch.setattr(status, "look", lambda *_: found)
    return CliRunner().invoke(app, ["status", "--config", str(config), *options])


def test_tables_show_it_and_the_exit_code_says_that_all_is_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run(monkeypatch, tmp_path, WELL)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "dev1 0 yes up host/1 1 2 1 7" in lines
    assert "0.mqtt.mqtt down 100 3" in lines and "kalinka.dead dead 2 -" in lines
    assert "bridge1:9464 pub yes, sub yes yes none 1 0.5 s 2 3 balanced" in lines
    assert lines[-1] == "all is well"


def test_the_exit_code_tells_what_is_wrong_from_who_is_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = run(monkeypatch, tmp_path, replace(WELL, brokers=(replace(VIEW, pub=()),)))
    assert wrong.exit_code == 1 and "finding: no instance of kalinka pub" in wrong.output
    gone = replace(WELL, kafka=None, away=("Kafka at k:1 is away",), instances=(InstanceView("x:1", "no"),))
    away = run(monkeypatch, tmp_path, gone)
    assert away.exit_code == 3 and "no answer: Kafka at k:1 is away" in away.output
    document = json.loads(run(monkeypatch, tmp_path, gone, "--json").output)
    assert document["kafka"] is None and document["no_answer"] == ["Kafka at k:1 is away"]
    assert document["brokers"][0]["devices"] == 7 and document["instances"][0]["error"] == "no"
    assert json.loads(run(monkeypatch, tmp_path, WELL, "--json").output)["instances"][0]["ready"] == {
        "pub": True,
        "sub": True,
    }


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run(monkeypatch, tmp_path, WELL, "--metrics", "9464")
    assert isinstance(result.exception, ConfigError)
