"""The lab itself: its commands, as a user types them, on real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kalinka_jms.config import load
from kalinka_jms.lab import processes
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Service
from kalinka_jms.lab.probes import answers
from kalinka_jms.ops.topics import wanted

Run = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ["dev1.activemq", "dev2.activemq", "dev3.activemq", "dev1.kafka", "dev1.zookeeper"]


@pytest.fixture
def run(breakable: Lab, tmp_path: Path) -> Run:
    """`kalinka lab …` on the session's lab, from another directory."""
    environment = {**os.environ, "KALINKA_LAB_STATE": str(breakable.layout.state)}

    def run(*words: str, fails: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kalinka_cli.main", "lab", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == fails, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def statuses(run: Run) -> dict[str, dict[str, Any]]:
    told = json.loads(run("status", "--json").stdout)
    assert told["profile"] == "small"
    return {service["name"]: service for service in told["services"]}


def admin(lab: Lab) -> AdminClient:
    return AdminClient({"bootstrap.servers": lab.layout.bootstrap, "log_level": 0})


def service(lab: Lab, name: str) -> Service:
    return lab.layout.service(name)


def test_status_names_every_server_and_its_own_pid(run: Run, lab: Lab) -> None:
    told = statuses(run)
    assert list(told) == NAMES
    assert {one["state"] for one in told.values()} == {"running"}
    for name, one in told.items():
        with socket.create_connection((one["host"], one["port"]), 5):
            pass
        command = Path(f"/proc/{one['pid']}/cmdline")
        assert not command.exists() or f"-Dkalinka.service={name}" in command.read_text().split("\0")


def test_up_again_changes_nothing(run: Run) -> None:
    before = statuses(run)
    run("up")
    assert statuses(run) == before


def test_config_is_all_that_config_prints(run: Run, lab: Lab) -> None:
    done = run("config")
    assert done.stderr == ""
    assert done.stdout == lab.config_path.read_text()
    settings = tomllib.loads(done.stdout)
    assert settings["kafka"]["bootstrap.servers"] == lab.layout.bootstrap
    assert [broker["name"] for broker in settings["brokers"]] == ["dev1", "dev2", "dev3"]


def test_the_topics_of_its_configuration_are_there(lab: Lab) -> None:
    there = admin(lab).list_topics(timeout=10).topics
    assert {name: len(topic.partitions) for name, topic in there.items() if not name.startswith("__")} == {
        "0.mqtt.mqtt": 6,
        "0.mqtt.sparkcluster": 6,
        "0.sparkcluster.mqtt": 6,
        "0.parked": 6,
        "kalinka.dead": 6,
    }


@pytest.mark.parametrize("name", ["dev2.activemq", "dev1.kafka", "dev1.zookeeper"])
def test_a_killed_server_is_gone_and_starts_again(run: Run, lab: Lab, name: str) -> None:
    pid = statuses(run)[name]["pid"]
    run("kill", name)
    assert statuses(run)[name] | {"pid": None, "state": "stopped"} == statuses(run)[name]
    assert not answers(service(lab, name))
    run("start", name)
    assert answers(service(lab, name))
    again = statuses(run)[name]
    assert again["state"] == "running" and again["pid"] != pid


@pytest.mark.parametrize("name", ["dev3.activemq", "dev1.kafka", "dev1.zookeeper"])
def test_a_paused_server_answers_nothing_until_it_is_resumed(run: Run, lab: Lab, name: str) -> None:
    pid = statuses(run)[name]["pid"]
    run("pause", name)
    assert statuses(run)[name]["state"] == "paused"
    assert not answers(service(lab, name))
    assert "resume" in run("start", name, fails=3).stderr
    run("resume", name)
    assert answers(service(lab, name))
    assert statuses(run)[name]["pid"] == pid


def test_up_mends_what_was_killed_and_paused(run: Run) -> None:
    run("kill", "dev1.activemq")
    run("pause", "dev1.zookeeper")
    run("up")
    assert {one["state"] for one in statuses(run).values()} == {"running"}


def test_a_killed_server_cannot_be_killed_again(run: Run) -> None:
    run("kill", "dev1.activemq")
    assert "does not run" in run("kill", "dev1.activemq", fails=3).stderr


def test_another_profile_or_address_is_refused_while_this_one_is_up(run: Run) -> None:
    assert "end it first" in run("up", "--profile", "full", fails=3).stderr
    assert "end it first" in run("up", "--base-address", "127.0.61.99", fails=3).stderr


def test_a_second_lab_on_the_same_ports_names_who_has_them(run: Run, lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    told = run("--state", str(other), "up", "--base-address", lab.layout.base_address, fails=3).stderr
    pid = processes.running(lab.layout.state)["dev2.activemq"].pid
    assert f"dev2.activemq: mqtt port {lab.layout.addresses[1]}:1883 is taken by" in told
    assert not sys.platform.startswith("linux") or f"(pid {pid})" in told
    assert processes.running(other) == {}


def test_logs_show_what_a_server_printed(run: Run) -> None:
    assert "started" in run("logs", "dev1.activemq", "-n", "200").stdout


def test_reset_empties_the_lab_and_down_leaves_nothing(run: Run, lab: Lab) -> None:
    client = admin(lab)  # held: it ends what it was asked when nobody holds it any more
    client.create_topics([NewTopic("of.mine", 1, 1)])["of.mine"].result(30)
    run("reset")
    assert {one["state"] for one in statuses(run).values()} == {"running"}
    there = admin(lab).list_topics(timeout=10).topics
    assert {topic.name for topic in wanted(load(lab.config_path))} <= set(there) and "of.mine" not in there
    pids = [one["pid"] for one in statuses(run).values()]
    run("down")
    assert processes.running(lab.layout.state) == {}
    assert not [pid for pid in pids if alive(pid)]
    assert {one["state"] for one in statuses(run).values()} == {"stopped"}
    run("down")  # and again: nothing to do, no complaint


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits for its parent to look at it does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_lab_whose_directory_was_deleted_is_replaced(breakable: Lab) -> None:
    state = breakable.layout.state
    before = processes.running(state)
    (state / "lab.json").unlink()
    breakable.up()
    after = processes.running(state)
    assert set(after) == set(before)
    assert not {process.pid for process in before.values()} & {process.pid for process in after.values()}
