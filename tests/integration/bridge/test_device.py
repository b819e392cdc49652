"""Routes with delivery = "device": a record is final when the device has it, by the evidence that its session gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scene import Scene, assert_exact

from kalinka_jms.lab.demo import SERVICES
from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def device_config(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("device") / "kalinka.toml"
    path.write_text(lab.config("device"))
    return path


@pytest.fixture
def device_bridge(device_config: Path, tmp_path: Path) -> Iterator[Instances]:
    """Two instances of each service for one test, which may kill them."""
    with Instances(device_config, tmp_path) as instances:
        for service in SERVICES:
            instances.start(service, 2)
        instances.wait_ready()
        yield instances


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
def test_everything_arrives_once_and_in_order(scene: Scene, device_bridge: Instances, clean: bool) -> None:
    """Devices leave and come back elsewhere while everybody sends to everybody; the instances stop cleanly."""
    devices = [scene.device(name, at, clean=clean) for at, name in enumerate(("beast", "sabretooth", "wolverine"))]
    traffic = scene.traffic(devices, scene.back_end())
    traffic.start(25.0)
    scene.let_pass(traffic, messages=1000)
    traffic.move(devices[0], scene.brokers[1], backlog=50)
    scene.let_pass(traffic, messages=500)
    traffic.stop()
    traffic.flush()
    assert_exact(scene.settle())
    codes = device_bridge.stop()
    assert set(codes.values()) == {0}, codes
