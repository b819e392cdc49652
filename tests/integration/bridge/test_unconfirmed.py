"""delivery = "device": what a device did not acknowledge is kept for it, in order, whatever ended it or the bridge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mqtt_session import Session
from scene import PARKED, Scene, parked_for

from kalinka_jms.lab import servers
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.demo import SERVICES
from kalinka_jms.lab.device import Device
from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until

pytestmark = pytest.mark.lab

TOPIC = "0.sparkcluster.mqtt"
FIVE = (b"0", b"1", b"2", b"3", b"4")


@pytest.fixture(scope="module")
def instances(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    """One instance of each service; tests that kill one start another."""
    folder = tmp_path_factory.mktemp("unconfirmed")
    config = folder / "kalinka.toml"
    config.write_text(lab.config("device").replace("[sub]", "[sub]\nack_timeout = 8.0"))
    with Instances(config, folder) as instances:
        for service in SERVICES:
            instances.start(service)
        instances.wait_ready()
        yield instances


class Stage:
    """A device that acknowledges by hand, a back end that sends to it, and what is parked for it."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.back_end: BackEnd = scene.back_end()
        self.device: Device = scene.device(name)  # only its name; a session is what listens
        self.brokers = scene.brokers

    def session(self, broker: int, **more: Any) -> Session:
        return Session(self.device.name, self.brokers[broker], **more)

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.back_end.produce(TOPIC, self.device.name.encode(), payload)
        self.back_end.flush()

    def send_while_away(self, *payloads: bytes) -> None:
        """They are parked, so that they come all at once when it listens."""
        self.send(*payloads)
        self.wait_parked(*payloads)

    @property
    def parked(self) -> list[bytes | None]:
        """What is parked for it now, in order."""
        taken_back = {record.key for record in self.back_end.read(PARKED) if record.value is None}
        return [record.value for record in parked_for(self.back_end, self.device) if record.key not in taken_back]

    def wait_parked(self, *payloads: bytes) -> None:
        """Wait until exactly these are."""
        assert wait_until(lambda: self.parked == list(payloads), 60), self.parked


@pytest.fixture
def stage(scene: Scene, instances: Instances, request: pytest.FixtureRequest) -> Stage:
    return Stage(scene, request.node.name.replace("_", "-")[5:35])


def test_a_device_that_leaves_after_three_of_five_gets_the_others_elsewhere(stage: Stage) -> None:
    """In order, before anything newer. The session it left behind has copies of them: a stated duplicate."""
    stage.send_while_away(*FIVE)
    with stage.session(0) as device:
        device.wait_for(*FIVE)
        device.acknowledge(*FIVE[:3])
    stage.wait_parked(*FIVE[3:])
    stage.send(b"5")
    stage.wait_parked(*FIVE[3:], b"5")
    with stage.session(1, willing=True) as device:
        device.wait_for(*FIVE[3:], b"5")
        stage.wait_parked()
    with stage.session(0, willing=True) as device:
        device.wait_for(*FIVE[3:])


def test_a_clean_session_has_what_was_written_to_it(stage: Stage) -> None:
    """Its acknowledgement says nothing, so what it got is final when it leaves without one."""
    stage.send_while_away(*FIVE)
    with stage.session(0, clean=True) as device:
        device.wait_for(*FIVE)
    stage.wait_parked()
    stage.send(b"5")
    stage.wait_parked(b"5")


def test_overlapping_filters_need_one_acknowledgement(stage: Stage) -> None:
    name = stage.device.name
    filters = (f"sparkcluster/mqtt/{name}/sub", f"sparkcluster/mqtt/{name}/#")
    stage.send_while_away(b"0", b"1")
    with Session(name, stage.brokers[0], *filters) as device:
        assert wait_until(lambda: len(device.got) == 4, 60)
        device.acknowledge_one(b"0")
    stage.wait_parked(b"1")


def test_another_durable_subscriber_speaks_for_a_persistent_device(stage: Stage, scene: Scene) -> None:
    """The stated limit: an acknowledgement names nobody. Without the other one this would stay parked."""
    stage.send_while_away(b"0")
    other = Session(f"other-{scene.ledger.run}", stage.brokers[0], "sparkcluster/mqtt/+/sub", willing=True)
    with other, stage.session(0) as device:
        device.wait_for(b"0")
        stage.wait_parked()
    other.end()


def test_a_device_that_never_acknowledges_holds_up_nobody_else(stage: Stage, scene: Scene) -> None:
    normal, numbers = scene.device("normal", 0), [b"%d" % number for number in range(60)]
    stage.send_while_away(*numbers)
    with stage.session(0) as device:
        device.wait_for(*numbers[:50])
        for _ in range(60):
            stage.back_end.send(normal.name)
        assert wait_until(lambda: not scene.ledger.missing(normal.name), 60)
        stage.send(b"60")
        stage.wait_parked(*numbers, b"60")
        assert set(device.payloads) == set(numbers[:50]), "no more than it may have at once"
    with stage.session(1, willing=True) as device:
        device.wait_for(*numbers, b"60")
        stage.wait_parked()


def test_the_broker_dies_with_what_was_not_acknowledged(stage: Stage, breakable: Lab) -> None:
    stage.send_while_away(*FIVE)
    with stage.session(2) as device:
        device.wait_for(*FIVE)
        device.acknowledge(*FIVE[:3])
        stage.wait_parked(*FIVE[3:])  # taken back, one by one
        breakable.kill(["dev3.activemq"])
    with stage.session(1, willing=True) as device:
        device.wait_for(*FIVE[3:])


def test_sub_dies_with_what_was_not_acknowledged(stage: Stage, instances: Instances) -> None:
    stage.send_while_away(*FIVE)
    with stage.session(0) as device:
        device.wait_for(*FIVE)
        device.acknowledge(*FIVE[:3])
        stage.wait_parked(*FIVE[3:])
        (sub,) = instances.of("sub")
        sub.kill()
        instances.start("sub")
        assert wait_until(lambda: device.payloads[5:] == [*FIVE[3:]], 90), device.payloads
        device.acknowledge(*FIVE[3:])
        stage.wait_parked()


def test_what_expires_at_the_broker_is_not_delivered(
    stage: Stage, breakable: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that gives every message a millisecond to live; Kalinka gives it none."""
    plugin = '<plugins><timeStampingBrokerPlugin zeroExpirationOverride="1"/></plugins>\n    <destinationPolicy>'
    whole = servers.broker_xml
    with monkeypatch.context() as patch:
        patch.setattr(
            servers,
            "broker_xml",
            lambda *args, **options: whole(*args, **options).replace("<destinationPolicy>", plugin),
        )
        breakable.kill(["dev3.activemq"])
        breakable.start(["dev3.activemq"])
    stage.send_while_away(*FIVE)
    with stage.session(2, willing=True) as device:
        assert wait_until(lambda: len(stage.parked) + len(set(device.payloads)) == 5, 60)
        early = set(device.payloads)  # if some made it within the millisecond
        stage.send(b"5")
        assert wait_until(lambda: b"5" in (stage.parked or device.payloads), 60), (stage.parked, device.payloads)
    breakable.kill(["dev3.activemq"])
    breakable.start(["dev3.activemq"])
    with stage.session(2, willing=True) as device:
        stage.wait_parked()
        assert early | set(device.payloads) == {*FIVE, b"5"}
