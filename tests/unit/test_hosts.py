"""What the playbooks share with the lab, the archives they push, and the inventory made from ssh's settings."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kalinka_jms.config import load
from kalinka_jms.errors import LabError
from kalinka_jms.lab import artefacts
from tests.integration.secure.acls import documented

ROOT = Path(__file__).parents[2]
SSH_CONFIG = """\
Host dev1
  HostName 127.0.0.1
  User vagrant
  Port 2222
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile "/home/me/a tree/.vagrant/machines/dev1/virtualbox/private_key"
  IdentitiesOnly yes
  LogLevel FATAL

Host dev2
  HostName 127.0.0.1
  User vagrant
  Port 2200
  IdentityFile /keys/dev2
"""


def inventory(text: str, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "vagrant" / "inventory"), str(target)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_the_inventory_says_how_ssh_reaches_each_host(tmp_path: Path) -> None:
    target = tmp_path / "connection.yml"
    assert inventory(SSH_CONFIG, target).returncode == 0
    comment, _, document = target.read_text().partition("\n")
    assert comment.startswith("# Made by")
    hosts = json.loads(document)["all"]["hosts"]
    assert list(hosts) == ["dev1", "dev2"]
    assert hosts["dev1"]["ansible_port"] == 2222
    assert hosts["dev1"]["ansible_ssh_private_key_file"].endswith(
        "a tree/.vagrant/machines/dev1/virtualbox/private_key"
    )
    assert "-o StrictHostKeyChecking=no" in hosts["dev1"]["ansible_ssh_common_args"]
    assert hosts["dev2"]["ansible_ssh_common_args"] == ""


def test_no_host_is_no_inventory(tmp_path: Path) -> None:
    told = inventory("", tmp_path / "connection.yml")
    assert (told.returncode, "no hosts" in told.stderr) == (1, True)
    assert not (tmp_path / "connection.yml").exists()


@pytest.mark.parametrize(
    ("template", "role", "own"),
    [
        ("server.properties", "kafka", set()),
        ("zoo.cfg", "zookeeper", {"standaloneEnabled"}),
    ],
)
def test_servers_are_set_as_in_the_lab(template: str, role: str, own: set[str]) -> None:
    lab = dict(
        line.split("=", 1)
        for line in (ROOT / "kalinka_jms/lab/templates" / template).read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    text = (ROOT / "ansible/roles" / role / "vars/main.yml").read_text()
    properties = dict(re.findall(r"^  ([\w.]+): (.*)$", text.split(f"{role}_properties:\n")[1], re.MULTILINE))
    assert properties.keys() - own == lab.keys()
    plain = {key: value for key, value in lab.items() if "$" not in value}
    assert plain == {key: properties[key].strip('"') for key in plain}


def test_an_archive_ends_with_the_mark_that_it_is_complete(tmp_path: Path) -> None:
    jar = tmp_path / "one.jar"
    jar.write_bytes(b"jar")
    target = tmp_path / "into" / "server-1.tar"
    assert artefacts._once(target, lambda path: artefacts._pack(path, [jar]))
    with tarfile.open(target) as archive:
        assert archive.getnames() == ["one.jar", artefacts.COMPLETE]
        assert {member.uid for member in archive} == {0}
    assert not artefacts._once(target, lambda _: pytest.fail("made again"))


def test_an_interrupted_archive_leaves_nothing(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise LabError("full")

    with pytest.raises(LabError):
        artefacts._once(tmp_path / "server-1.tar", broken)
    assert list(tmp_path.iterdir()) == []


def test_another_content_or_python_is_another_name(tmp_path: Path) -> None:
    wheel = tmp_path / "kalinka-9-py3-none-any.whl"
    wheel.write_bytes(b"one")
    first = artefacts._stamp([wheel], "3.11", "x86_64")
    assert first == artefacts._stamp([wheel], "3.11", "x86_64")
    assert first != artefacts._stamp([wheel], "3.12", "x86_64")
    wheel.write_bytes(b"two")
    assert first != artefacts._stamp([wheel], "3.11", "x86_64")


def test_the_playbooks_give_the_rights_that_the_documentation_names(tmp_path: Path) -> None:
    rights = runpy.run_path(str(ROOT / "ansible/roles/kalinka/files/rights.py"))
    config = tmp_path / "kalinka.toml"
    servers = '[kafka]\n"bootstrap.servers" = "h:2"\n[zookeeper]\nhosts = "h:3"\n'
    config.write_text(f'[[brokers]]\nname = "dev1"\nstomp = "stomp://h:1"\n{servers}')
    assert set(rights["bindings"](load(config))) == set(documented())


def pending(directory: Path, started: str, reload: str = "no") -> str:
    """What the playbooks find changed since the unit `it`, of which systemd tells this, was started."""
    systemctl = directory / "bin" / "systemctl"
    systemctl.parent.mkdir(exist_ok=True)
    systemctl.write_text(f'#!/bin/sh\ncase "$*" in *ExecMainStart*) echo "{started}";; *) echo {reload};; esac\n')
    systemctl.chmod(0o755)
    script = (ROOT / "ansible/roles/host/files/pending").read_text()
    command = ["sh", "-c", script, "pending", "it.service", "--", str(directory / "etc")]
    environ = os.environ | {"PATH": f"{systemctl.parent}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def test_a_restart_that_an_interrupted_run_left_undone_is_found(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "it.conf"
    file.parent.mkdir()
    file.touch()
    os.utime(file, (1_700_000_000.5, 1_700_000_000.5))  # Tue 2023-11-14 22:13:20.5 UTC
    assert pending(tmp_path, "Tue 2023-11-14 22:13:20.400000 UTC") == f"{file}\n"
    assert pending(tmp_path, "Tue 2023-11-14 22:13:20.600000 UTC") == ""
    assert pending(tmp_path, "Tue 2023-11-14 22:13:20.600000 UTC", reload="yes") == "it.service\n"
    assert pending(tmp_path, "") == pending(tmp_path, "n/a") == ""
