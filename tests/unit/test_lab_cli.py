"""`kalinka lab` and `kalinka broker-config` without servers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from kalinka_cli.broker_config import broker_config
from kalinka_cli.lab import app
from typer.testing import CliRunner

from kalinka_jms.errors import LabError
from kalinka_jms.lab import toolchain

runner = CliRunner()


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KALINKA_LAB_STATE", str(tmp_path / "lab"))
    monkeypatch.delenv("KALINKA_LAB_ADDRESS", raising=False)
    return tmp_path / "lab"


def test_config_prints_toml_and_nothing_else() -> None:
    done = runner.invoke(app, ["config", "--base-address", "127.0.50.1", "--port", "kafka=9999"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert tomllib.loads(done.stdout)["kafka"]["bootstrap.servers"] == "127.0.50.1:9999"


def test_status_of_a_lab_that_never_was() -> None:
    told = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert told["profile"] == "small"
    assert {(service["pid"], service["state"]) for service in told["services"]} == {(None, "stopped")}
    assert set(told["services"][0]) >= {"name", "pid", "host", "port", "state"}


def test_down_of_a_lab_that_never_was(state: Path) -> None:
    assert runner.invoke(app, ["down"]).exit_code == 0
    assert not state.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--profile", "large"],
        ["up", "--base-address", "nowhere"],
        ["up", "--port", "mqtt"],
        ["kill", "dev9.kafka"],
        ["start"],
        ["logs", "dev2.zookeeper"],
        ["nothing"],
    ],
)
def test_what_is_typed_wrong_is_a_matter_of_usage(words: list[str]) -> None:
    done = runner.invoke(app, words)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_what_does_not_run_cannot_be_killed() -> None:
    done = runner.invoke(app, ["kill", "dev1.kafka"])
    assert isinstance(done.exception, LabError)
    assert "kalinka lab start dev1.kafka" in str(done.exception)


def test_up_without_java_tells_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_candidates", list)
    done = runner.invoke(app, ["up"])
    assert isinstance(done.exception, LabError)
    assert toolchain.install_command() in str(done.exception)


def test_every_command_teaches_with_an_example() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    for name, each in command.commands.items():
        assert f"kalinka lab {name}" in (each.help or "")


def test_broker_config_prints_a_broker() -> None:
    own = typer.Typer()
    own.command()(broker_config)
    done = runner.invoke(own, ["--name", "dev7", "--host", "10.0.0.7", "--port", "stomp=61614", "--delivery-device"])
    assert (done.exit_code, done.stderr) == (0, "")
    broker = ElementTree.fromstring(done.stdout).find("{http://activemq.apache.org/schema/core}broker")
    assert broker is not None and broker.attrib["brokerName"] == "dev7"
    assert "stomp+nio://10.0.0.7:61614?" in done.stdout
    assert runner.invoke(own, ["--name", "a b"]).exit_code == 2
