"""Java and Maven, and what to type where they are missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab import toolchain


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on the PATH; empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(toolchain, "_MACOS_JAVAS", ())
    return tmp_path


def fake_java(directory: Path, version: str) -> None:
    directory.mkdir(exist_ok=True)
    java = directory / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)


@pytest.mark.parametrize(("text", "major"), [("17.0.15", 17), ("21", 21), ("1.8.0_292", 8)])
def test_the_version_is_read(path: Path, text: str, major: int) -> None:
    fake_java(path, text)
    assert toolchain.java_version(str(path / "java")) == major


def test_no_java_and_no_maven_come_with_the_command_that_installs_them(path: Path) -> None:
    with pytest.raises(LabError, match="Java is missing") as caught:
        toolchain.java()
    assert toolchain.install_command() in str(caught.value)
    with pytest.raises(LabError, match="Maven, which is missing") as caught:
        toolchain.maven()
    assert toolchain.install_command() in str(caught.value)


def test_an_old_java_is_not_enough(path: Path) -> None:
    fake_java(path, "11.0.2")
    with pytest.raises(LabError, match="only Java 11 is here"):
        toolchain.java()


def test_java_home_comes_first_unless_it_is_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(path, "17.0.1")
    home = path / "home"
    home.mkdir()
    fake_java(home / "bin", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert toolchain.java() == str(home / "bin/java")
    fake_java(home / "bin", "11.0.1")
    assert toolchain.java() == str(path / "java")


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, "apt-get update && apt-get install -y default-jre-headless maven"),
        ({"ID": "debian", "VERSION_ID": "11"}, "apt-get update && apt-get install -y openjdk-17-jre-headless maven"),
        ({"ID": "debian"}, "apt-get update && apt-get install -y default-jre-headless maven"),
        ({"ID": "ubuntu", "VERSION_ID": "22.04", "ID_LIKE": "debian"}, "openjdk-17-jre-headless maven"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04", "ID_LIKE": "debian"}, "default-jre-headless maven"),
        ({"ID": "linuxmint", "VERSION_ID": "21.3", "ID_LIKE": "ubuntu debian"}, "default-jre-headless maven"),
        ({"ID": "fedora", "VERSION_ID": "42"}, "dnf install -y java-21-openjdk-headless maven"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf install -y java-21-openjdk-headless maven"),
        ({"ID": "arch"}, "pacman -S"),
        ({}, "install a Java runtime, version 17 or newer, and Maven"),
    ],
)
def test_one_command_for_each_system(release: dict[str, str], command: str) -> None:
    assert command in toolchain.linux_command(release)


def test_who_is_not_root_needs_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(toolchain, "os_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command = "sudo apt-get update && sudo apt-get install -y default-jre-headless maven"
    assert toolchain.install_command() == command
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert toolchain.install_command() == command.replace("sudo ", "")
