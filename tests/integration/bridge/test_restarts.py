"""Clean restarts under load: nothing is lost, nothing comes twice, nothing is out of order, in both directions."""

from __future__ import annotations

import pytest
from scene import Scene, assert_exact

from kalinka_jms.lab.demo import SERVICES
from kalinka_jms.lab.instances import Instances

pytestmark = pytest.mark.lab

RATE = 30.0
"""Rounds a second, of twelve messages."""


def test_a_rolling_restart_of_everything(scene: Scene, own_bridge: Instances) -> None:
    """All six instances, one after the other: SIGTERM, and when it has gone another one in its place."""
    traffic = scene.traffic(scene.trio(0, 1, 2), scene.back_end())
    traffic.start(RATE)
    scene.let_pass(traffic, 500)
    for service in SERVICES:
        for leaver in own_bridge.of(service):
            assert leaver.stop() == 0
            own_bridge.start(service)
            own_bridge.wait_ready()
            scene.let_pass(traffic, 100)
    traffic.stop()
    traffic.flush()
    assert_exact(scene.settle())


def test_newcomers_first_then_the_old_ones_leave(scene: Scene, own_bridge: Instances) -> None:
    """As an upgrade goes that never has fewer than two of each."""
    traffic = scene.traffic(scene.trio(0, 1, 2), scene.back_end())
    traffic.start(RATE)
    scene.let_pass(traffic, 300)
    old = list(own_bridge.all)
    for service in SERVICES:
        own_bridge.start(service, 2)
    own_bridge.wait_ready()
    scene.let_pass(traffic, 300)
    for leaver in old:
        assert leaver.stop() == 0
        scene.let_pass(traffic, 50)
    traffic.stop()
    traffic.flush()
    assert_exact(scene.settle())
