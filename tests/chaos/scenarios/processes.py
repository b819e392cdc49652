"""Processes of the bridge: killed, and stopped in order."""

from __future__ import annotations

import time

from tests.chaos.bridge import SERVICES
from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

PUB, SUB, REGISTRY, STOPPED = 3.0, 10.0, 8.0, 20.0
"""Seconds until a direction goes on after its instance is killed, and after one is stopped. `sub` has to wait for
Kafka's session.timeout.ms, 6 s by the lab's configuration, and `registry` for ZooKeeper's."""

EVERYTHING = (
    "All of it: devices stay connected, so every id that a broker PUBACKed is in Kafka, and every id in Kafka "
    "reaches its device. What was in flight in the dead process comes twice."
)


@scenario("kill-pub", breaks="SIGKILL of the `pub` that is active on dev1", must=EVERYTHING)
def kill_pub(stage: Stage) -> None:
    victim = stage.bridge.active("pub", "dev1")
    victim.kill()
    stage.blow(f"killed {victim.name}")
    stage.recovered(up=PUB, down=SUB)


@scenario("kill-sub", breaks="SIGKILL of a `sub` that holds half of the partitions", must=EVERYTHING)
def kill_sub(stage: Stage) -> None:
    victim = stage.bridge.of("sub")[0]
    victim.kill()
    stage.blow(f"killed {victim.name}")
    stage.recovered(up=PUB, down=SUB)


@scenario(
    "kill-registry",
    breaks="SIGKILL of the watcher of dev1 while devices move to dev1 and away from it",
    must=EVERYTHING + " Devices that move leave cleanly; what comes meanwhile is parked and replayed.",
)
def kill_registry(stage: Stage) -> None:
    victim = stage.bridge.active("registry", "dev1")
    here, there = stage.fleet.at("dev1")[:3], stage.fleet.at("dev2")[:3]
    victim.kill()
    stage.blow(f"killed {victim.name}; {len(here)} devices leave its broker, {len(there)} come")
    for name in here:
        stage.fleet.move(name, stage.fleet.brokers[1])
    for name in there:
        stage.fleet.move(name, stage.fleet.brokers[0])
    moved = [*here, *there]
    stage.arrived(moved)
    stage.recovered(up=PUB, down=REGISTRY)


@scenario(
    "kill-all",
    breaks="SIGKILL of every process of the bridge at once; all are started again at once",
    must=EVERYTHING + " Brokers keep what comes up meanwhile, Kafka what goes down.",
)
def kill_all(stage: Stage) -> None:
    stage.bridge.instances.kill(stage.bridge.all())
    stage.blow("killed everything")
    time.sleep(2)  # the bridge is away for a while
    stage.bridge.heal()
    stage.blow("everything is ready again")
    stage.recovered(up=PUB, down=SUB)


@scenario(
    "rolling-restart",
    breaks="SIGTERM of one process after another, each replaced before the next",
    must="All of it, once: a clean stop makes no duplicate.",
    duplicates=0,
)
def rolling_restart(stage: Stage) -> None:
    stage.blow()
    for service in SERVICES:
        for instance in stage.bridge.of(service):
            code = instance.stop(timeout=60)
            if code:
                stage.outcome.faults.append(f"{instance.name} ended with {code}")
            stage.bridge.heal()
    stage.blow("all were replaced")
    stage.recovered(up=PUB, down=SUB)
