"""Messages and records on their ordinary ways, every one counted."""

from __future__ import annotations

import pytest
from scene import Scene, assert_exact

from kalinka_jms.lab.device import BACK_END
from kalinka_jms.lab.report import as_text
from kalinka_jms.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("bridge")]


@pytest.mark.parametrize("places", [(0, 0, 0), (0, 1, 2)], ids=["one broker", "three brokers"])
def test_three_messages_each_way(scene: Scene, places: tuple[int, int, int]) -> None:
    scene.traffic(scene.trio(*places)).burst(3)
    assert_exact(scene.settle(), sent=3 * 6)


def test_a_thousand_each_from_three_devices(scene: Scene) -> None:
    scene.traffic(scene.trio(0, 1, 2)).burst(1000)
    assert_exact(scene.settle(), sent=1000 * 6)


def test_a_thousand_records_for_each_device(scene: Scene) -> None:
    devices, back_end = scene.trio(0, 1, 2), scene.back_end()
    for _ in range(1000):
        for device in devices:
            back_end.send(device.name, 256)
    back_end.flush()
    assert_exact(scene.settle(), sent=3000)


def test_a_thousand_messages_from_each_device_to_the_back_end(scene: Scene) -> None:
    devices = scene.trio(0, 1, 2)
    scene.back_end()
    for _ in range(1000):
        for device in devices:
            device.send(BACK_END, 256)
    for device in devices:
        device.flush()
    assert_exact(scene.settle(), sent=3000)


def test_everyone_to_everyone_with_a_back_end(scene: Scene) -> None:
    scene.traffic(scene.trio(0, 1, 2), scene.back_end()).burst(200)
    assert_exact(scene.settle(), sent=200 * 12)


def test_a_record_says_where_it_comes_from(scene: Scene) -> None:
    device, back_end, absent = scene.device("beast", 1), scene.back_end(), scene.device("absent")
    for destination in (BACK_END, absent.name):
        device.publish(device.topic(destination), b"hello")
    source = device.name.encode()
    for topic, destination in (("0.mqtt.sparkcluster", BACK_END), ("0.mqtt.mqtt", absent.name)):
        record = back_end.wait_for(topic, lambda record: record.header("kalinka.source") == source)
        assert record.key == (source if destination == BACK_END else destination.encode())
        assert record.value == b"hello"
        assert [name for name, _ in record.headers] == ["kalinka.id", "kalinka.source", "mqtt.topic"]
        assert (record.header("kalinka.id") or b"").startswith(b"dev2/ID:")
        assert record.header("mqtt.topic") == device.topic(destination).encode()


def test_a_device_moves_to_another_broker_in_mid_stream(scene: Scene) -> None:
    """Its session is clean: it leaves between two messages, and those sent while it is away wait for it in order."""
    devices = scene.trio(0, 1, 2)
    traffic = scene.traffic(devices, scene.back_end())
    traffic.start(rate=25)
    traffic.move(devices[0], scene.brokers[2], backlog=100)
    traffic.move(devices[0], scene.brokers[1], backlog=100)
    traffic.move(devices[1], scene.brokers[0], backlog=100)
    traffic.stop()
    traffic.flush()
    assert_exact(scene.settle())


def test_a_persistent_session_moves_in_the_midst_of_messages(scene: Scene) -> None:
    """What the broker was writing to it as it left waits there for its return: nothing is lost, but that comes late."""
    others, mover = [scene.device("beast", 0), scene.device("sabretooth", 1)], scene.device("rover", 0, clean=False)
    traffic = scene.traffic([*others, mover], scene.back_end())
    traffic.hold(source=mover.name)
    traffic.start(rate=50)
    for broker in (1, 0, 1, 0):
        scene.let_pass(traffic, messages=500)
        mover.move(scene.brokers[broker])
    scene.let_pass(traffic, messages=500)
    traffic.stop()
    traffic.flush()
    for broker in (1, 0, 1, 0):
        if wait_until(lambda: not scene.ledger.missing(), 5):
            break
        mover.move(scene.brokers[broker])
    verdict = scene.settle()
    assert verdict.proven, as_text(verdict)
