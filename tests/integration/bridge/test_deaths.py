"""Two instances of everything: one dies or leaves, and the work goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scene import Scene, assert_exact, assert_nothing_lost

from kalinka_jms.lab.demo import SERVICES
from kalinka_jms.lab.instances import Instances

pytestmark = pytest.mark.lab

RATE = 25.0  # rounds a second


@pytest.mark.parametrize("service", SERVICES)
def test_an_instance_is_killed(
    scene: Scene, own_bridge: Instances, service: str, record_property: Callable[[str, object], None]
) -> None:
    """First one, then, when another has taken its place, the other: one of them was at work."""
    devices = scene.trio(0, 1, 2)
    traffic = scene.traffic(devices, scene.back_end())
    traffic.start(RATE)
    for victim, place in zip(own_bridge.of(service), (1, 0), strict=True):
        scene.let_pass(traffic, messages=500)
        victim.kill()
        scene.let_pass(traffic, messages=500)
        traffic.move(devices[0], scene.brokers[place], backlog=50)  # those who are left must see it
        own_bridge.start(service)
        own_bridge.wait_ready()
    traffic.stop()
    traffic.flush()
    verdict = scene.settle()
    record_property("duplicates", verdict.total.duplicates)
    assert_nothing_lost(verdict)


@pytest.mark.parametrize("service", SERVICES)
def test_an_instance_stops_cleanly_under_load(scene: Scene, own_bridge: Instances, service: str) -> None:
    """SIGTERM: it finishes what it has, exits 0, and makes no duplicate."""
    traffic = scene.traffic(scene.trio(0, 1, 2), scene.back_end())
    traffic.start(RATE)
    for leaver in own_bridge.of(service):
        scene.let_pass(traffic, messages=500)
        assert leaver.stop() == 0
        scene.let_pass(traffic, messages=500)
        own_bridge.start(service)
        own_bridge.wait_ready()
    traffic.stop()
    traffic.flush()
    assert_exact(scene.settle())


def test_everything_stops_cleanly_under_load_and_starts_again(scene: Scene, own_bridge: Instances) -> None:
    traffic = scene.traffic(scene.trio(0, 1, 2), scene.back_end())
    traffic.start(RATE)
    scene.let_pass(traffic, messages=500)
    codes = own_bridge.stop()
    assert set(codes.values()) == {0}, codes
    scene.let_pass(traffic, messages=500)
    for service in SERVICES:
        own_bridge.start(service)
    own_bridge.wait_ready()
    traffic.stop()
    traffic.flush()
    assert_exact(scene.settle())
