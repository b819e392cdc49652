"""The image: `make test-image`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from kalinka_jms import __version__

pytestmark = pytest.mark.skipif(
    "KALINKA_TEST_CONTAINERS" not in os.environ, reason="it needs Docker and the image: make test-image"
)
IMAGE = os.environ.get("KALINKA_IMAGE", "kalinka:latest")
MOST = 60_000_000
"""Bytes that Kalinka may add to its base: the interpreter's packages, and half of it is librdkafka."""


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_kalinka_and_not_root() -> None:
    assert docker("run", "--rm", "--network=none", IMAGE, "--version").strip() == f"kalinka {__version__}"
    [config] = json.loads(docker("image", "inspect", IMAGE))
    assert config["Config"]["User"] == "10001:10001"


def test_it_adds_little_to_its_base(record_property: Callable[[str, object], None]) -> None:
    lines = docker("history", "--human=false", "--no-trunc", "--format={{.Size}} {{.CreatedBy}}", IMAGE).splitlines()
    own = next(int(line.split()[0]) for line in lines if "/opt/kalinka" in line and int(line.split()[0]) > 0)
    record_property("bytes", own)
    print(f"Kalinka's own layer has {own / 1e6:.1f} MB")
    assert own < MOST


def test_nothing_in_it_can_be_written_by_its_user() -> None:
    script = "import os; print([d for d, _, _ in os.walk('/opt/kalinka') if os.access(d, os.W_OK)])"
    assert docker("run", "--rm", "--network=none", "--entrypoint=python3", IMAGE, "-c", script).strip() == "[]"
