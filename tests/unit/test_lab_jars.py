"""Jars are fetched once, whole or not at all; a script stands in for Maven."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab import jars

FETCH = """
for word in "$@"; do case "$word" in -DoutputDirectory=*) out="${word#*=}" ;; esac; done
mkdir -p "$out" && echo jar > "$out/one.jar"
echo "[INFO] Downloaded from central: repo/one.jar (1.5 MB at 2 MB/s)"
"""
FAIL = 'mkdir -p jars; echo half > jars/half.jar; echo "[ERROR] no network"; echo "[INFO] bye"; exit 1'


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write the script; every run adds its arguments as a line to the file that is returned."""
    calls = tmp_path / "calls"
    calls.touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(script: str) -> Path:
        file = tmp_path / "bin" / "mvn"
        file.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{script}')
        file.chmod(0o755)
        return calls

    return write


def quiet(_: str) -> None:
    pass


def test_a_second_fetch_finds_what_the_first_one_fetched(maven: Callable[[str], Path]) -> None:
    calls = maven(FETCH)
    said: list[str] = []
    place = jars.fetch("kafka", said.append)
    assert [file.name for file in place.iterdir()] == ["one.jar"]
    assert "kafka" in said[0]
    assert jars.fetch("kafka", said.append) == place
    (call,) = calls.read_text().splitlines()
    assert f"-Dkafka.version={jars.versions()['kafka']['kafka.version']}" in call
    assert "-DincludeScope=runtime" in call


def test_a_failure_tells_why_and_leaves_nothing_that_looks_whole(maven: Callable[[str], Path]) -> None:
    maven(FAIL)
    with pytest.raises(LabError, match=r"Maven could not fetch zookeeper:\n.*no network"):
        jars.fetch("zookeeper", quiet)
    maven(FETCH)
    place = jars.fetch("zookeeper", quiet)
    assert [file.name for file in place.iterdir()] == ["one.jar"]
    assert [entry.name for entry in jars.cache().iterdir()] == [place.name]  # what the failure left is gone


def test_two_at_once_fetch_once(maven: Callable[[str], Path]) -> None:
    calls = maven("sleep 0.3\n" + FETCH)
    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(lambda _: jars.fetch("activemq", quiet), range(4)))
    assert len(places) == 1
    assert len(calls.read_text().splitlines()) == 1


def test_other_versions_are_other_jars(maven: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    maven(FETCH)
    before = jars.fetch("kafka", quiet)
    raised = {"kafka": {**jars.versions()["kafka"], "slf4j.version": "9"}}
    monkeypatch.setattr(jars, "versions", lambda: raised)
    assert jars.fetch("kafka", quiet) != before


def test_a_cache_that_cannot_be_written_is_named(
    maven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LabError, match="cannot keep the servers in"):
        jars.fetch("kafka", quiet)
