"""Servers found, frozen and ended, with small processes in their place."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kalinka_jms.lab import processes
from kalinka_jms.lab.waiting import wait_until

POLITE = "import time, sys; print('ready', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"
Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start something that carries the marks of a service; returns its pid once it runs."""
    labs = {tmp_path}

    def start(service: str, code: str = POLITE, lab: Path = tmp_path) -> int:
        labs.add(lab)
        log = tmp_path / "log" / f"{service}.log"
        pid = processes.spawn([sys.executable, "-c", code, *processes.marks(lab, service)], tmp_path, log)
        assert wait_until(lambda: "ready" in log.read_text(), 30)
        return pid

    yield start
    for lab in labs:
        processes.kill(lab, processes.running(lab).values())


def test_a_server_is_found_by_its_lab_and_name(start: Start, tmp_path: Path) -> None:
    pid = start("dev1.kafka")
    start("dev1.kafka", lab=tmp_path / "other")
    start("dev1.kafka", lab=tmp_path.with_name(f"{tmp_path.name}0"))
    assert processes.running(tmp_path) == {"dev1.kafka": processes.Process("dev1.kafka", pid, paused=False)}


def test_a_directory_with_a_blank_in_its_name_is_a_lab_as_well(start: Start, tmp_path: Path) -> None:
    assert processes.running(tmp_path / "a b") == {}
    pid = start("dev1.kafka", lab=tmp_path / "a b")
    assert processes.running(tmp_path / "a b")["dev1.kafka"].pid == pid


@pytest.mark.skipif(not shutil.which("ps"), reason="no ps on this machine")
def test_ps_finds_the_same_where_there_is_no_proc(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("dev1.kafka")
    start("dev1.zookeeper", lab=tmp_path / "a b")
    labs = (tmp_path, tmp_path / "a b")
    by_proc = [processes.running(lab) for lab in labs]
    monkeypatch.setattr(processes, "_labs", processes._from_ps)
    assert [processes.running(lab) for lab in labs] == by_proc


def test_a_server_outlives_the_terminal(start: Start) -> None:
    assert os.getsid(start("dev1.kafka")) != os.getsid(0)


def test_a_frozen_server_is_paused_and_can_be_ended(start: Start, tmp_path: Path) -> None:
    start("dev1.kafka")
    processes.pause(tmp_path, processes.running(tmp_path).values())
    assert processes.running(tmp_path)["dev1.kafka"].paused
    processes.stop(tmp_path, processes.running(tmp_path).values(), 30)
    assert processes.running(tmp_path) == {}


def test_a_server_that_does_not_end_is_killed(start: Start, tmp_path: Path) -> None:
    start("dev1.kafka", STUBBORN)
    start("dev1.activemq")
    processes.stop(tmp_path, processes.running(tmp_path).values(), 0.3)
    assert processes.running(tmp_path) == {}


def test_a_signal_to_one_that_is_gone_is_no_error(start: Start, tmp_path: Path) -> None:
    start("dev1.kafka")
    (process,) = processes.running(tmp_path).values()
    processes.kill(tmp_path, [process])
    processes.send(process, signal.SIGTERM)


def test_the_log_of_the_run_before_is_kept(start: Start, tmp_path: Path) -> None:
    start("dev1.kafka", f"print('first'); {POLITE}")
    processes.kill(tmp_path, processes.running(tmp_path).values())
    start("dev1.kafka")
    assert "first" in (tmp_path / "log" / "dev1.kafka.log.1").read_text()
    assert "first" not in (tmp_path / "log" / "dev1.kafka.log").read_text()
