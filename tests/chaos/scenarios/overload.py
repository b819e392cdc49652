"""Too much at once: full windows, a full store, a device that does not read, members that come and go."""

from __future__ import annotations

import signal
import time

from tests.chaos.scenario import scenario
from tests.chaos.scenarios.devices import STILL
from tests.chaos.scenarios.processes import EVERYTHING, PUB, STOPPED, SUB
from tests.chaos.scenarios.servers import BROKEN, LINK
from tests.chaos.stage import Stage
from tests.chaos.store import limited

BURST = 4.0
"""How many times the usual load makes windows full."""
FLOOD = 4000
"""Records for the devices of a broker that stands still: more than a link has in flight, less than a `sub` takes."""


@scenario(
    "full-sub",
    breaks="a black hole of 2 s where dev2's broker is, while 4,000 records come for its devices; then SIGKILL "
    "of the `sub` with most of them in flight, before that broker goes on",
    must=EVERYTHING,
)
def full_sub(stage: Stage) -> None:
    devices = stage.fleet.at("dev2")
    stage.lab.pause(["dev2.activemq"])
    stage.blow("dev2.activemq is a black hole")
    for name in devices:
        stage.kafka.burst(name, FLOOD // len(devices), stage.fleet.usual)
    time.sleep(2)
    held = {one: stage.bridge.in_flight(one) for one in stage.bridge.of("sub")}
    victim = max(held, key=lambda one: held[one])
    victim.kill()
    stage.lab.resume(["dev2.activemq"])
    stage.blow(f"killed {victim.name}, which held {held[victim]:.0f} records; dev2.activemq answers again")
    if held[victim] < FLOOD / 4:
        stage.outcome.faults.append("too little was in flight")
    stage.recovered(up=LINK, down=SUB)


@scenario(
    "never-reads",
    breaks="a device at dev1 stops reading while 20 MB come for it; its broker has to cut it off, and go on meanwhile",
    must=BROKEN + " What else came for it is parked, and replayed when it is back.",
)
def never_reads(stage: Stage) -> None:
    (name,) = stage.fleet.at("dev1")[:1]
    others = [one for one in stage.names if one != name]
    stage.fleet.stop_reading(name)
    stage.kafka.burst(name, 300, 65536)
    stage.blow(f"{name} reads no more")
    stage.recovered(up=LINK, down=LINK, of=["dev1", "dev2", "dev3", *others])
    stage.until(lambda: stage.ends.settled(name), 60, "the broker cuts it off")
    stage.silence(STILL, ["dev1", "dev2", "dev3", *others])
    stage.fleet.go(name, stage.fleet.broker("dev1"))
    stage.blow("the broker has cut it off; it is back and reads")
    stage.listening()
    stage.recovered(up=LINK, down=4 * LINK)


@scenario(
    "rebalance-storm",
    breaks="instances of `sub` join and leave (every other one by SIGKILL) for 20 s, without a rest",
    must=EVERYTHING,
    ci=False,
)
def rebalance_storm(stage: Stage) -> None:
    stage.blow("a storm of rebalances")
    until, turn = time.monotonic() + 20, 0
    while time.monotonic() < until:
        (guest,) = stage.bridge.instances.start("sub")
        guest.wait_ready(60)
        turn += 1
        if turn % 2:
            guest.kill()
        elif code := guest.stop(60):
            stage.outcome.faults.append(f"{guest.name} ended with {code}")
    stage.blow(f"the storm is over: {turn} came and went")
    stage.recovered(up=PUB, down=SUB)


@scenario(
    "full-windows",
    breaks="four times the load while Kafka is a black hole, until prefetch windows are full; then every `pub` is "
    "stopped by SIGTERM while it drains",
    must="All of it, and up once: a drained window is acknowledged to a cut, the rest is left to the next.",
)
def full_windows(stage: Stage) -> None:
    stage.fleet.rate *= BURST
    kafka = [service.name for service in stage.lab.layout.of("kafka")]
    stage.lab.pause(kafka)
    stage.blow("Kafka is a black hole, and the load four times as high")
    time.sleep(8)
    stage.fleet.rate /= BURST
    old = stage.bridge.of("pub")
    stage.lab.resume(kafka)
    for instance in old:
        instance.signal(signal.SIGTERM)
    for instance in old:
        if code := instance.wait(60):
            stage.outcome.faults.append(f"{instance.name} ended with {code}")
    stage.blow("every pub has drained and stopped; others start")
    stage.bridge.heal()
    stage.blow()
    stage.recovered(up=LINK, down=STOPPED)


@scenario(
    "store-limit",
    breaks="dev3's broker may store 8 MB, and Kafka is a black hole until that is full: senders have to wait",
    must="All of it: a broker whose store is full acknowledges nothing. Devices whose connection breaks meanwhile: "
    "as for a broken connection.",
    ci=False,
)
def store_limit(stage: Stage) -> None:
    with limited(stage, "dev3"):
        stage.listening()
        stage.blow("dev3's broker may store 8 MB")
        stage.recovered(up=LINK, down=SUB)
        stage.fleet.size = 8192
        kafka = [service.name for service in stage.lab.layout.of("kafka")]
        stage.lab.pause(kafka)
        full = stage.blocked("dev3", 40)
        stage.fleet.size = stage.fleet.usual
        if not full:
            stage.outcome.faults.append("the store was never full")
        stage.lab.resume(kafka)
        stage.blow("the store was full; Kafka answers again")
        stage.listening()
        stage.recovered(up=STOPPED, down=STOPPED)
