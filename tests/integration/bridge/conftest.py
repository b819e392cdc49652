"""What the tests of the whole bridge share: its processes, and a scene of clients that remember."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scene import Scene

from kalinka_jms.lab.demo import SERVICES
from kalinka_jms.lab.instances import Instances, tail
from kalinka_jms.lab.lab import Lab

Start = Callable[[int], Instances]


@pytest.fixture(scope="module")
def bridge(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    """Two instances of each service for all tests of a module; they stop cleanly, or the module fails."""
    with _running(lab, tmp_path_factory.mktemp("bridge")) as instances:
        yield instances
        codes = instances.stop()
        assert set(codes.values()) == {0}, codes


@pytest.fixture
def own_bridge(lab: Lab, tmp_path: Path) -> Iterator[Instances]:
    """Two instances of each service for one test, which may kill them."""
    with _running(lab, tmp_path) as instances:
        yield instances


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    """Clients for one test; all are closed at its end."""
    with ExitStack() as stack:
        yield Scene(lab, stack)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows the last lines of every instance's log."""
    report = yield
    for value in item.funcargs.values() if report.failed else ():
        if isinstance(value, Instances):
            report.sections += [(instance.name, tail(instance.log, 40)) for instance in value.all]
    return report


def _running(lab: Lab, logs: Path) -> Instances:
    instances = Instances(lab.config_path, logs)
    try:
        for service in SERVICES:
            instances.start(service, 2)
        instances.wait_ready()
    except BaseException:
        instances.kill(instances.all)
        raise
    return instances
