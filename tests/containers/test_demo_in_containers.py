"""The demo's scenario with everything in containers: `make test-containers`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    "KALINKA_TEST_CONTAINERS" not in os.environ, reason="it needs Docker and the image: make test-containers"
)


def test_the_demo_in_containers_loses_nothing(tmp_path: Path) -> None:
    from bridge import Containers
    from servers import running

    from kalinka_jms.lab.crew import OwnCrew
    from kalinka_jms.lab.demo import Demo, Place, Plan, brokers
    from kalinka_jms.lab.layout import Layout
    from kalinka_jms.lab.report import as_text
    from kalinka_jms.lab.stage import Lines

    layout = Layout(tmp_path, "small", os.environ.get("KALINKA_TEST_LAB") or "127.0.61.20")
    with running(layout) as config, Lines() as stage:
        place = Place(
            brokers=brokers(layout),
            bootstrap=layout.bootstrap,
            config=config,
            logs=tmp_path / "logs",
            crew=OwnCrew(config, tmp_path / "logs", Containers),
        )
        verdict = Demo(Plan(seconds=15, rate=10), place, stage).play()
    print(as_text(verdict))
    assert verdict.proven, as_text(verdict)
