"""Devices that are away: what is for them is parked, and comes in order when they listen, wherever that is."""

from __future__ import annotations

import pytest
from scene import PARKED, Scene, assert_exact, parked_for

from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.device import Device
from kalinka_jms.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("bridge")]


def test_what_is_sent_to_an_absent_device_is_parked_and_replayed_in_order(scene: Scene) -> None:
    sender, back_end, absent = scene.device("beast", 0), scene.back_end(), scene.device("away")
    _send(sender, back_end, absent, 250)
    _wait_parked(back_end, absent, 500)
    absent.join(scene.brokers[2])
    _send(sender, back_end, absent, 250)  # behind the backlog
    assert_exact(scene.settle(), sent=1000)
    _wait_tombstones(back_end, absent)


def test_a_record_is_parked_under_the_partition_it_came_from(scene: Scene) -> None:
    back_end, absent = scene.back_end(), scene.device("away")
    for partition in range(6):
        back_end.produce("0.sparkcluster.mqtt", absent.name.encode(), b"%d" % partition, partition=partition)
    _wait_parked(back_end, absent, 6)
    assert all(record.value == b"%d" % record.partition for record in parked_for(back_end, absent))
    absent.join(scene.brokers[0])
    assert wait_until(lambda: len(absent.received) == 6, 30)
    assert {message.payload for message in absent.received} == {b"%d" % partition for partition in range(6)}


def test_a_device_that_comes_and_goes_misses_nothing(scene: Scene) -> None:
    sender, back_end, device = scene.device("beast", 0), scene.back_end(), scene.device("rover", 1)
    for broker in (2, 0, 1):
        _send(sender, back_end, device, 50)
        assert wait_until(lambda: not scene.ledger.outstanding(), 30)
        device.leave()
        _send(sender, back_end, device, 50)
        device.join(scene.brokers[broker])
    assert_exact(scene.settle(), sent=600)


def test_a_client_that_listens_to_everything_hides_no_absence(scene: Scene) -> None:
    sender, back_end, absent = scene.device("beast", 0), scene.back_end(), scene.device("away")
    for broker in range(3):
        scene.eavesdrop(broker)
    _send(sender, back_end, absent, 100)
    _wait_parked(back_end, absent, 200)
    absent.join(scene.brokers[1])
    _send(sender, back_end, absent, 100)
    assert_exact(scene.settle(), sent=400)


def _send(sender: Device, back_end: BackEnd, device: Device, count: int) -> None:
    """`count` messages from another device and as many records from the back end, all acknowledged."""
    for _ in range(count):
        sender.send(device.name)
        back_end.send(device.name)
    sender.flush()
    back_end.flush()


def _wait_parked(back_end: BackEnd, device: Device, count: int) -> None:
    assert wait_until(lambda: len(parked_for(back_end, device)) >= count, 60), len(parked_for(back_end, device))
    assert len(parked_for(back_end, device)) == count


def _wait_tombstones(back_end: BackEnd, device: Device) -> None:
    """Every parked record was taken back from the topic, after it was delivered."""
    parked = {record.key for record in parked_for(back_end, device)}
    assert wait_until(lambda: parked <= {r.key for r in back_end.read(PARKED) if r.value is None}, 30)
