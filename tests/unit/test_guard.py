"""What `kalinka broker-config` prints to keep strangers out of a broker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from kalinka_cli.broker_config import broker_config
from typer.testing import CliRunner

from kalinka_jms.errors import LabError
from kalinka_jms.lab.guard import Guard
from kalinka_jms.lab.layout import Ports
from kalinka_jms.lab.servers import broker_xml

CORE = "{http://activemq.apache.org/schema/core}"


def broker(tls: bool = False, devices: Sequence[str] | None = None, user: str = "kalinka") -> ElementTree.Element:
    guard = Guard(tls=tls, devices=devices, user=user)
    return ElementTree.fromstring(broker_xml("dev1", "10.0.0.5", "/data", Ports(), guard=guard))


def rights(root: ElementTree.Element, user: str) -> dict[str, set[str]]:
    """Destination → what the user may do there."""
    return {
        (entry.get("topic") or f"queue {entry.get('queue')}"): found
        for entry in root.iter(f"{CORE}authorizationEntry")
        if (found := {right for right in ("read", "write", "admin") if entry.get(right) == user})
    }


def test_a_device_publishes_as_itself_and_listens_to_what_is_its_own() -> None:
    assert rights(broker(devices=["beast", "wolverine"]), "beast") == {
        "mqtt.beast.mqtt.*.pub": {"write", "admin"},
        "mqtt.beast.sparkcluster.pub": {"write", "admin"},
        "mqtt.*.mqtt.beast.sub": {"read", "admin"},
        "sparkcluster.mqtt.beast.sub": {"read", "admin"},
    }


def test_kalinka_reads_all_of_its_composite_by_one_entry() -> None:
    assert rights(broker(devices=[], user="bridge"), "bridge")[">"] == {"read", "admin"}


def test_the_names_are_those_of_users() -> None:
    [rights] = broker(devices=[]).iter(f"{CORE}authorizationMap")
    assert rights.get("groupClass") == "org.apache.activemq.jaas.UserPrincipal"


def test_rights_are_reloaded_and_the_broker_waits_for_that_with_its_start() -> None:
    root = broker(devices=[])
    assert len(list(root.iter(f"{CORE}runtimeConfigurationPlugin"))) == 1
    assert [one.get("start") for one in root.iter(f"{CORE}broker")] == ["false"]


def test_without_devices_there_are_no_logins_and_the_file_says_so() -> None:
    text = broker_xml("dev1", "h", "/d", Ports(), guard=Guard(tls=True))
    assert "Plugin" not in text.replace("a plugin", "")
    assert "Anybody who reaches the ports may do anything" in text
    assert "Anybody" not in broker_xml("dev1", "h", "/d", Ports(), guard=Guard(devices=["beast"]))


def test_tls_is_on_every_connector() -> None:
    uris = [one.attrib["uri"].partition("://")[0] for one in broker(tls=True).iter(f"{CORE}transportConnector")]
    assert uris == ["mqtt+nio+ssl", "stomp+ssl", "ssl"]
    assert "keyStorePassword" in [*broker(tls=True).iter(f"{CORE}sslContext")][1].attrib


@pytest.mark.parametrize("device", ["a,b", "*", "a.b", "", "kalinka", "kalinka-probe"])
def test_a_name_that_would_have_more_rights_than_its_own_is_refused(device: str) -> None:
    with pytest.raises(LabError, match="device"):
        broker(devices=[device])


def test_names_of_any_kind_stay_well_formed_xml() -> None:
    device = "a\"<&'b"
    assert f"mqtt.{device}.mqtt.*.pub" in rights(broker(devices=[device]), device)


def run(*words: str, stdin: str = "") -> tuple[int, str]:
    own = typer.Typer()
    own.command()(broker_config)
    done = CliRunner().invoke(own, ["--name", "dev1", *words], input=stdin)
    return done.exit_code, done.output


def test_the_command_reads_devices_from_a_file_or_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "devices"
    file.write_text("# ours\nbeast\n\n wolverine \n")
    code, text = run("--tls", "--devices", str(file), "--user", "bridge")
    assert code == 0
    assert set(rights(ElementTree.fromstring(text), "wolverine"))
    assert rights(ElementTree.fromstring(text), "bridge")
    assert run("--devices", "-", stdin="beast\n")[0] == 0


def test_what_cannot_be_a_device_is_a_matter_of_usage(tmp_path: Path) -> None:
    assert run("--devices", "-", stdin="a.b\n")[0] == 2
    assert run("--devices", str(tmp_path / "missing"))[0] == 2
