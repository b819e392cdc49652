"""The files for containers, as far as they can be read without any."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kalinka_cli.main import app
from typer.testing import CliRunner

from kalinka_jms.config import load
from kalinka_jms.lab.jars import versions

TOP = Path(__file__).parents[2]
COMPOSE = (TOP / "containers" / "compose.yaml").read_text()


@pytest.mark.parametrize("server", ["activemq", "kafka", "zookeeper"])
def test_the_versions_are_those_of_the_lab(server: str) -> None:
    [version] = re.findall(rf"\$\{{{server.upper()}_VERSION:-(.*?)\}}", COMPOSE)
    assert version == versions()[server][f"{server}.version"]


def test_the_configuration_names_the_services() -> None:
    settings = load(TOP / "containers" / "kalinka.toml")
    services = set(re.findall(r"^  ([\w-]+):$", COMPOSE, re.MULTILINE))
    hosts = {broker.host for broker in settings.brokers} | {"kafka", "zookeeper"}
    assert hosts <= services
    assert settings.kafka["bootstrap.servers"] == "kafka:9092"
    assert settings.zookeeper.hosts == "zookeeper:2181"


def test_the_commands_are_kalinkas() -> None:
    commands = [
        line.split(", ") for line in re.findall(r"^    command: \[((?:topics|pub|sub|registry).*)\]$", COMPOSE, re.M)
    ]
    assert len(commands) == 4
    for command in commands:
        words = [word.strip('"') for word in command]
        known = CliRunner().invoke(app, [*words[: 2 if words[0] == "topics" else 1], "--help"]).output
        assert all(word in known for word in words if word.startswith("--")), words


def test_the_image_is_nobodys_root_and_its_base_is_public() -> None:
    text = (TOP / "Containerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE) == ["docker.io/library/python:3.13-slim"]
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
