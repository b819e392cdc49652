"""Real servers for tests: one small lab for the whole session, apart from the user's own.

Where Java, Maven or the addresses are missing its tests are skipped, with the reason; with CI set they fail.
`pytest -m "not lab"` runs the others. KALINKA_TEST_LAB=127.0.62.20 takes other addresses, for two sessions at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab import network, toolchain
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout, default_state

ADDRESS = os.environ.get("KALINKA_TEST_LAB") or "127.0.61.20"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the servers, however deep it asks for them."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker("lab")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, up and empty at first, for tests that break nothing: `lab.config_path`, `lab.layout.bootstrap`, …"""
    layout = Layout(default_state().parent / f"test-lab-{ADDRESS}", "small", ADDRESS, delivery_device=True)
    _require(layout)
    with _alone(layout.state):
        lab = Lab(layout)
        lab.down(wipe=True)  # of a session that died
        try:
            lab.up()
            yield lab
        finally:
            lab.down(wipe=True)


@pytest.fixture
def breakable(lab: Lab) -> Iterator[Lab]:
    """The same for a test that kills or pauses servers: all of them run before it and after it."""
    lab.up()
    yield lab
    lab.up()


def _require(layout: Layout) -> None:
    try:
        toolchain.java()
        toolchain.maven()
        network.check_addresses(layout.addresses)
    except LabError as error:
        if os.environ.get("CI"):
            pytest.fail(f"no real servers in CI: {error}")
        pytest.skip(f"no real servers: {error}")


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One test session at a time on these addresses."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.with_name(f"{state.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"another test session uses the lab at {ADDRESS}; set KALINKA_TEST_LAB to another address")
        yield
