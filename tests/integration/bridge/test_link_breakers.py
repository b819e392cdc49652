"""Records by which a broker ends the link: they alone are dead, the others go on, and a retry brings them after all.

A broken link leaves open what the broker took of the transactions under way, so that some may come twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from scene import DEAD, Scene, assert_nothing_lost

from kalinka_jms.dead import split
from kalinka_jms.lab import servers
from kalinka_jms.lab.backend import BackEnd, ReadRecord
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("strict", "bridge")]

LIMIT = 200_000
"""Bytes of a frame on the strict broker's STOMP connector."""

_WHO = 'read="anonymous" admin="anonymous"'
RIGHTS = f"""<plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="true" anonymousUser="anonymous" anonymousGroup="anonymous"/>
      <authorizationPlugin><map><authorizationMap><authorizationEntries>
        <authorizationEntry topic="mqtt.>" {_WHO} write="anonymous"/>
        <authorizationEntry topic="kalinka.>" {_WHO} write="anonymous"/>
        <authorizationEntry topic="ActiveMQ.>" {_WHO} write="anonymous"/>
        <authorizationEntry queue=">" {_WHO} write="anonymous"/>
        <authorizationEntry topic="sparkcluster.>" {_WHO} write="nobody"/>
        <authorizationEntry topic="sparkcluster.mqtt.kalinka-canary.sub" {_WHO} write="anonymous"/>
      </authorizationEntries></authorizationMap></map></authorizationPlugin>
    </plugins>
    <persistenceAdapter>"""


@pytest.fixture(scope="module")
def strict(lab: Lab) -> Iterator[None]:
    """The third broker refuses what the back end sends to devices, and frames that are large."""
    original = servers.broker_xml

    def strict_xml(name: str, *args: Any, **more: Any) -> str:
        xml = original(name, *args, **more)
        if name != "dev3":
            return xml
        option = "transport.tcpNoDelay=true"
        assert "<persistenceAdapter>" in xml and option in xml
        return xml.replace("<persistenceAdapter>", RIGHTS).replace(
            option, f"{option}&amp;wireFormat.maxFrameSize={LIMIT}"
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "broker_xml", strict_xml)
        _again(lab)
    yield
    _again(lab)


def test_a_record_for_a_topic_that_is_denied_is_dead_and_a_retry_delivers_it(scene: Scene, lab: Lab) -> None:
    """Five of them, under traffic to the same device and others on the same broker."""
    devices, back_end = scene.trio(2, 2, 0), scene.back_end()
    target = devices[0]
    traffic = scene.traffic(devices)
    traffic.start(rate=20)
    scene.let_pass(traffic, 200)
    values = [b"denied %d %b" % (number, scene.ledger.run.encode()) for number in range(5)]
    for value in values:
        back_end.produce(
            "0.sparkcluster.mqtt", target.name.encode(), value, headers=[("mine", b"\xfe"), ("mine", None)]
        )
        scene.let_pass(traffic, 20)
    letters = [_dead(back_end, value) for value in values]
    scene.let_pass(traffic, 100)
    for letter in letters:
        had, own = split(letter.headers) or ([], {})
        assert had[:2] == [("mine", b"\xfe"), ("mine", None)] and letter.key == target.name.encode()
        assert "not authorized" in own["kalinka.reason"] and own["kalinka.attempt"] == "1"
        assert own["kalinka.origin"].startswith("0.sparkcluster.mqtt/")
    assert not [message for message in target.received if message.payload in values]
    traffic.move(target, scene.brokers[1], backlog=10)  # where it is allowed
    report = _retry(lab, "--device", target.name, "--yes")
    assert (report["sent"], report["back"], report["left"]) == ({"0.sparkcluster.mqtt": 5}, {}, {})
    assert wait_until(lambda: len([m for m in target.received if m.payload in values]) == 5, 60)
    assert [message.payload for message in target.received if message.payload in values] == values
    assert _retry(lab, "--device", target.name, "--yes")["letters"] == 0
    traffic.stop()
    traffic.flush()
    assert_nothing_lost(scene.settle())


def test_a_record_that_its_broker_finds_too_large_is_dead_and_its_neighbours_are_not(scene: Scene) -> None:
    devices, back_end = scene.trio(2, 2, 0), scene.back_end()
    traffic = scene.traffic(devices)
    traffic.start(rate=20)
    for device in (devices[0], devices[2]):
        large = b"L" * 2 * LIMIT + scene.ledger.run.encode() + device.name.encode()
        scene.let_pass(traffic, 100)
        back_end.produce("0.mqtt.mqtt", device.name.encode(), large)
        scene.let_pass(traffic, 100)
        if device is devices[0]:
            letter = _dead(back_end, large)
            assert letter.header("kalinka.reason")
        else:
            assert wait_until(lambda value=large, to=device: any(m.payload == value for m in to.received), 60)  # type: ignore[misc]
    assert not [message for message in devices[0].received if len(message.payload) > LIMIT]
    traffic.stop()
    traffic.flush()
    assert_nothing_lost(scene.settle())


def _again(lab: Lab) -> None:
    lab.kill(["dev3.activemq"])
    lab.start(["dev3.activemq"])


def _dead(back_end: BackEnd, value: bytes) -> ReadRecord:
    return back_end.wait_for(DEAD, lambda record: record.value == value, 60)


def _retry(lab: Lab, *words: str) -> Any:
    command = [sys.executable, "-m", "kalinka_cli.main", "dead", "retry", "--config", str(lab.config_path), "--json"]
    done = subprocess.run([*command, *words], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
