"""A registry of its own for each test; whatever the test was about, at its end its whole history is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from judge import only_the_elected_wrote
from registry_scene import Scene

from kalinka_jms.lab.lab import Lab


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    yield from _scene(lab, tmp_path)


@pytest.fixture
def breakable_scene(breakable: Lab, tmp_path: Path) -> Iterator[Scene]:
    yield from _scene(breakable, tmp_path)


def _scene(lab: Lab, directory: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        scene = Scene(lab, directory, stack)
        yield scene
    only_the_elected_wrote(scene.history, scene.root, [broker.name for broker in scene.settings.brokers])
