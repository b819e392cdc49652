"""The demo: devices on three brokers and a back end speak through the bridge; a device moves, a process dies."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.crew import Crew, OwnCrew
from kalinka_jms.lab.device import Device, MqttBroker
from kalinka_jms.lab.instances import tail
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.ledger import Ledger, Verdict
from kalinka_jms.lab.stage import Stage
from kalinka_jms.lab.traffic import Traffic
from kalinka_jms.lab.waiting import wait_until

NAMES = ("beast", "sabretooth", "wolverine")
SERVICES = ("registry", "sub", "pub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the demo plays: seconds of traffic, rounds a second (one message a stream), bytes a message, who is killed.

    `backlog` messages or more are sent to the moving device while it is away. `patience` seconds are left at the end
    for everything that is under way; a killed instance is missed by Kafka only when its session ends (45 s unless the
    configuration says less).
    """

    seconds: float = 30.0
    rate: float = 20.0
    size: int = 256
    victim: str = "sub"
    backlog: int = 50
    patience: float = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it plays: brokers for the devices, Kafka, the services' configuration, a directory for their logs.

    `passwords`: of the devices, where the brokers want them; `login`: the back end's settings, where Kafka wants them.
    `crew` is who runs the bridge, where that is not this machine; the configuration and the directory count for nothing
    then.
    """

    brokers: Sequence[MqttBroker]
    bootstrap: str
    config: Path
    logs: Path
    passwords: Mapping[str, str] = field(default_factory=dict)
    login: Mapping[str, Any] = field(default_factory=dict)
    crew: Crew | None = None


def run(plan: Plan, lab: Lab, stage: Stage) -> Verdict:
    """Play on the lab, which is brought up, and down again unless it was up. Raises LabError."""
    stage.say(f"bringing up the lab ({lab.layout.profile})")
    was_up = any(status.pid for status in lab.status())
    with ExitStack() as stack:
        if not was_up:
            stack.callback(lab.down)
        lab.up()
        return Demo(plan, place(lab), stage).play()


def place(lab: Lab) -> Place:
    """The lab as a place for a demo; logs of an earlier one are deleted."""
    logs = lab.layout.state / "demo"
    shutil.rmtree(logs, ignore_errors=True)
    return Place(
        brokers=brokers(lab.layout),
        bootstrap=lab.layout.bootstrap,
        config=lab.config_path,
        logs=logs,
    )


def tails(lab: Lab, lines: int = 15) -> str:
    """The last lines of every log of the last demo on this lab."""
    logs = sorted((lab.layout.state / "demo").glob("*.log"))
    return "\n".join(f"--- {log}\n{tail(log, lines)}" for log in logs)


def brokers(layout: Layout) -> list[MqttBroker]:
    """Where devices connect in a lab of this layout."""
    return [MqttBroker(broker.node, broker.address, broker.ports["mqtt"]) for broker in layout.of("activemq")]


class Demo:
    """One performance of a plan."""

    def __init__(self, plan: Plan, place: Place, stage: Stage) -> None:
        self._plan = plan
        self._place = place
        self._stage = stage
        self._ledger = Ledger()
        self._devices = [Device(name, self._ledger, password=place.passwords.get(name)) for name in NAMES]
        self._back_end = BackEnd(place.bootstrap, self._ledger, login=place.login)
        self._traffic = Traffic(self._ledger, self._devices, self._back_end, size=plan.size)

    def play(self) -> Verdict:
        """Play it and judge. Raises LabError when a part does not do its own; everything started is stopped."""
        with self._place.crew or OwnCrew(self._place.config, self._place.logs) as crew, ExitStack() as stack:
            stack.callback(self._back_end.close)
            for device in self._devices:
                stack.callback(device.close)
            stack.callback(self._traffic.halt)
            self._gather(crew)
            self._speak()
            self._move()
            self._kill(crew)
            self._finish()
            self._stage.say(crew.ends)
            crew.stop()
        return self._ledger.verdict()

    def _gather(self, crew: Crew) -> None:
        self._stage.say(f"{crew.begins}: {', '.join(SERVICES)}")
        crew.gather(SERVICES)
        self._back_end.start()
        for device, broker in zip(self._devices, self._place.brokers, strict=True):
            device.join(broker)
            self._stage.say(f"{device.name} listens at {broker.name}")

    def _speak(self) -> None:
        self._stage.say("everyone speaks to everyone: devices, and a back end on Kafka")
        self._stage.show(self._ledger)
        self._traffic.start(self._plan.rate)
        self._go_on()

    def _move(self) -> None:
        device, old, new = self._devices[0], self._place.brokers[0], self._place.brokers[-1]
        self._stage.say(f"{device.name} leaves {old.name}; the others go on speaking to it")
        self._traffic.move(device, new, backlog=self._plan.backlog)
        self._stage.say(f"{device.name} listens at {new.name}, {self._plan.backlog} messages or more later")
        self._go_on()

    def _kill(self, crew: Crew) -> None:
        self._stage.say(crew.kill(self._plan.victim))
        self._go_on()

    def _finish(self) -> None:
        self._traffic.stop()
        self._traffic.flush()
        self._stage.say("everything is sent and acknowledged; waiting for what is under way")
        wait_until(lambda: not self._ledger.missing(), self._plan.patience)

    def _go_on(self) -> None:
        time.sleep(self._plan.seconds / 3)  # the length of an act, not a wait for something
        self._traffic.check()
