"""Processes of the bridge that stand still, are replaced, and wake up."""

from __future__ import annotations

import signal
import time

from tests.chaos.scenario import scenario
from tests.chaos.scenarios.processes import EVERYTHING, STOPPED
from tests.chaos.stage import Stage


@scenario(
    "stop-pub",
    breaks="SIGSTOP of the active `pub` for 30 s, then SIGCONT",
    must=EVERYTHING + " What wakes up after it was replaced acknowledges nothing.",
    ci=False,
)
def stop_pub(stage: Stage) -> None:
    _stopped(stage, "pub")


@scenario(
    "stop-sub",
    breaks="SIGSTOP of a `sub` for 30 s, then SIGCONT",
    must=EVERYTHING + " What wakes up after it was replaced commits nothing, and parks nothing.",
)
def stop_sub(stage: Stage) -> None:
    _stopped(stage, "sub")


@scenario(
    "stop-registry",
    breaks="SIGSTOP of the watcher of dev1 for 30 s, then SIGCONT, while devices move",
    must=EVERYTHING + " What wakes up after it was replaced writes nothing.",
    ci=False,
)
def stop_registry(stage: Stage) -> None:
    _stopped(stage, "registry")


def _stopped(stage: Stage, service: str, seconds: float = 30.0) -> None:
    victim = stage.bridge.of("sub")[0] if service == "sub" else stage.bridge.active(service, "dev1")
    victim.signal(signal.SIGSTOP)
    begun = time.monotonic()
    stage.blow(f"stopped {victim.name}")
    if service == "registry":
        moved = stage.fleet.at("dev1")[:2]
        for name in moved:
            stage.fleet.move(name, stage.fleet.brokers[2])
        stage.arrived(moved)
    stage.recovered(up=STOPPED, down=STOPPED)
    time.sleep(max(0.0, seconds - (time.monotonic() - begun)))
    victim.signal(signal.SIGCONT)
    stage.blow(f"continued {victim.name}")
    stage.recovered(up=STOPPED, down=STOPPED)
