"""Servers: paused (a black hole: connections stay and nothing answers) and killed."""

from __future__ import annotations

import time

from tests.chaos.scenario import scenario
from tests.chaos.scenarios.processes import EVERYTHING, STOPPED, SUB
from tests.chaos.stage import Stage

LINK = 5.0
"""Seconds until a broker's streams go on after it answers again."""
HOLE = 15.0
"""Seconds that a server is a black hole: longer than heart-beats, echoes and ZooKeeper's session last."""
KAFKA = 45.0
"""Seconds until records go down again after a Kafka node died or stood still: twice max.poll.interval.ms (20 s) where
Kafka forgot its group's members as it loaded them (the only node again, or another one instead), else
session.timeout.ms."""
LONG = 75.0
"""Seconds that Kafka is away for: longer than every time-out of its clients but max.poll.interval.ms."""

BROKEN = (
    'Up: every PUBACKed id. Down, delivery = "broker" or clean sessions: every id but those that were sent to a device '
    "before the broker saw its connection end and had not arrived when it broke (counted as dark, by name)."
)


@scenario(
    "pause-broker",
    breaks="SIGSTOP of dev2's broker for 15 s; its devices stay with it, or go elsewhere when their keep-alive ends",
    must=BROKEN + " The streams of the other brokers never pause.",
    roaming=True,
)
def pause_broker(stage: Stage) -> None:
    others = [name for name in stage.names if name not in stage.fleet.at("dev2")]
    stage.lab.pause(["dev2.activemq"])
    stage.blow("dev2.activemq is a black hole")
    stage.recovered(up=LINK, down=SUB, of=["dev1", "dev3", *others])
    time.sleep(HOLE)
    stage.lab.resume(["dev2.activemq"])
    stage.blow("dev2.activemq answers again")
    stage.listening()
    stage.recovered(up=LINK, down=LINK)


@scenario(
    "kill-broker",
    breaks="SIGKILL of dev2's broker; its devices go to the others; it comes back after 5 s",
    must=BROKEN + " What it had PUBACKed comes from its store when it is back.",
    roaming=True,
)
def kill_broker(stage: Stage) -> None:
    stage.lab.kill(["dev2.activemq"])
    stage.blow("killed dev2.activemq")
    stage.until(lambda: not stage.fleet.at("dev2"), 10, "the devices notice")
    stage.listening()
    stage.recovered(up=LINK, down=SUB)
    time.sleep(5)
    stage.lab.start(["dev2.activemq"])
    stage.blow("dev2.activemq answers again")
    stage.spread()
    stage.recovered(up=LINK)
    stage.blow("its devices are back at it")
    stage.recovered(down=LINK)


@scenario(
    "empty-broker",
    breaks="SIGKILL of dev3's broker; it comes back with an empty store",
    must=BROKEN + " Not those PUBACKed ids that were in the store, and not in Kafka yet, when it was deleted (dark).",
    ci=False,
)
def empty_broker(stage: Stage) -> None:
    stage.lab.kill(["dev3.activemq"])
    stage.blow("killed dev3.activemq, deleted its store")
    stage.until(lambda: not stage.fleet.at("dev3"), 10, "the devices notice")
    stage.wipe("dev3")
    stage.lab.start(["dev3.activemq"])
    stage.blow("dev3.activemq answers again, empty")
    stage.listening()
    stage.recovered(up=LINK, down=LINK)


@scenario(
    "pause-kafka",
    breaks="SIGSTOP of Kafka for 15 s (full: of one node)",
    must=EVERYTHING + " Brokers keep what comes up meanwhile.",
)
def pause_kafka(stage: Stage) -> None:
    _hole(stage, "dev1.kafka", HOLE, KAFKA)


@scenario(
    "kill-kafka",
    breaks="SIGKILL of Kafka, and its start after 5 s",
    must=EVERYTHING + " Brokers keep what comes up meanwhile; what Kafka acknowledged is on its disk.",
    profiles=("small",),
)
def kill_kafka(stage: Stage) -> None:
    stage.lab.kill(["dev1.kafka"])
    stage.blow("killed dev1.kafka")
    time.sleep(5)
    stage.lab.start(["dev1.kafka"])
    stage.blow("dev1.kafka answers again")
    stage.recovered(up=SUB, down=KAFKA)


@scenario(
    "kill-kafka-nodes",
    breaks="SIGKILL of one Kafka node; when it is back, of another one",
    must=EVERYTHING + " Two nodes are enough for acks=all with min.insync.replicas=2.",
    profiles=("full",),
)
def kill_kafka_nodes(stage: Stage) -> None:
    for node in ("dev1", "dev2"):
        stage.lab.kill([f"{node}.kafka"])
        stage.blow(f"killed {node}.kafka")
        stage.recovered(up=STOPPED, down=KAFKA)
        stage.lab.start([f"{node}.kafka"])
        stage.replicated()


@scenario(
    "kafka-away",
    breaks=f"SIGSTOP of every Kafka node for {LONG:.0f} s: longer than any time-out of its clients",
    must=EVERYTHING + " Brokers keep what comes up meanwhile.",
    ci=False,
)
def kafka_away(stage: Stage) -> None:
    _hole(stage, "kafka", LONG, KAFKA)


@scenario(
    "slow-kafka",
    breaks="Kafka stands still for 0.4 s of every half second, for 15 s",
    must=EVERYTHING + " Slow is not dead: nothing is dropped, nothing comes twice.",
    duplicates=0,
    ci=False,
)
def slow_kafka(stage: Stage) -> None:
    stage.blow("Kafka is slow")
    nodes = [service.name for service in stage.lab.layout.of("kafka")]
    until = time.monotonic() + 15
    while time.monotonic() < until:
        stage.lab.pause(nodes)
        time.sleep(0.4)
        stage.freely(nodes)
        time.sleep(0.1)
    stage.blow("Kafka is as fast as before")
    stage.recovered(up=LINK, down=LINK)


@scenario(
    "pause-zookeeper",
    breaks="SIGSTOP of ZooKeeper for 15 s while devices move (full: of one node)",
    must=BROKEN + " Cached owners go on; what is for devices that moved waits, then is parked, and comes.",
    ci=False,
)
def pause_zookeeper(stage: Stage) -> None:
    stage.lab.pause(["dev1.zookeeper"])
    stage.blow("dev1.zookeeper is a black hole")
    _some_move(stage)
    time.sleep(HOLE)
    stage.lab.resume(["dev1.zookeeper"])
    stage.blow("dev1.zookeeper answers again")
    stage.listening()
    stage.recovered(up=LINK, down=SUB)


@scenario(
    "kill-zookeeper",
    breaks="SIGKILL of ZooKeeper while devices move; it comes back after 8 s (full: one node)",
    must=BROKEN + " Cached owners go on; what is for devices that moved waits, then is parked, and comes.",
)
def kill_zookeeper(stage: Stage) -> None:
    stage.lab.kill(["dev1.zookeeper"])
    stage.blow("killed dev1.zookeeper")
    _some_move(stage)
    time.sleep(8)
    stage.lab.start(["dev1.zookeeper"])
    stage.blow("dev1.zookeeper answers again")
    stage.listening()
    stage.recovered(up=LINK, down=SUB)


@scenario(
    "expire-zookeeper",
    breaks="every ZooKeeper session of the bridge expires: its connections are a black hole for 12 s; devices move",
    must=BROKEN + " Watchers are elected anew and reconcile.",
)
def expire_zookeeper(stage: Stage) -> None:
    stage.zookeeper.freeze()
    stage.blow("ZooKeeper hears nothing of the bridge")
    _some_move(stage)
    time.sleep(12)
    stage.zookeeper.cut()
    stage.zookeeper.thaw()
    stage.blow("its connections pass again, and its sessions are gone")
    stage.listening()
    stage.recovered(up=LINK, down=SUB)


def _hole(stage: Stage, what: str, seconds: float, bound: float) -> None:
    names = [what] if "." in what else [service.name for service in stage.lab.layout.of("kafka")]
    stage.lab.pause(names)
    stage.blow(f"{', '.join(names)} is a black hole")
    if stage.lab.layout.profile == "full" and len(names) == 1:
        stage.recovered(up=STOPPED, down=KAFKA)
    time.sleep(seconds)
    stage.lab.resume(names)
    stage.blow("it answers again")
    stage.recovered(up=SUB, down=bound)


def _some_move(stage: Stage) -> None:
    """Four devices change brokers while the registry cannot hear of it; the streams of all others never pause."""
    moved = stage.shuffle(4)
    others = [name for name in stage.names if name not in moved]
    stage.recovered(up=LINK, down=LINK, of=["dev1", "dev2", "dev3", *others])
