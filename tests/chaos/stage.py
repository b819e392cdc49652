"""The stage: a lab, the bridge, the load and the judge; a scenario plays on it with the verbs here."""

from __future__ import annotations

import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from kalinka_jms.config import load
from kalinka_jms.errors import LabError
from kalinka_jms.lab import processes, topics
from kalinka_jms.lab.demo import brokers
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until
from tests.chaos.bridge import Bridge
from tests.chaos.fleet import Fleet
from tests.chaos.judge import LEGS, Group, Judge
from tests.chaos.kafka import Kafka, wait_settled
from tests.chaos.message import BACK_END, Stream
from tests.chaos.observer import Ends, Observer
from tests.chaos.outcome import Outcome, Recovery, faults
from tests.chaos.proxy import Proxy
from tests.chaos.scenario import Scenario

PATIENCE = 60.0
"""Seconds for what is under way at the end of a scenario. No bound: those are `Stage.recovered`."""
LOOK = 0.25
"""Seconds between two counts."""
TOUR = 10.0
"""Seconds that persistent sessions have to get everything where they are, before they visit the other brokers."""
LINGER = 1.0
"""Seconds that they stay at each."""
BLOCKED = 3.0
"""Seconds without a PUBACK after which a broker counts as blocked."""
CALM = 3.0
"""Seconds of undisturbed load before a blow."""
STEADY_WITHIN, STEADY_TIMES = 0.5, 5
"""The load is steady when each stream brings something new within so many seconds, so many times in a row: Java that
was just started is slow, and the first blow would be judged by that."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is set up; `rate` in messages a second, each way."""

    delivery: str = "broker"
    session: str = "clean"
    devices: int = 30
    rate: float = 300.0
    calm: float = CALM
    seed: int = 0
    sabotage: str = ""
    slack: float = 1.0
    """By what every bound of recovery is multiplied."""


Say = Callable[[str], None]


class Stage:
    """One run: everything is started once, and scenarios follow one another under the same load."""

    def __init__(self, lab: Lab, config: Path, logs: Path, zookeeper: Proxy, options: Options, say: Say) -> None:
        """`zookeeper`: what stands between the bridge and the first node of ZooKeeper."""
        self.lab = lab
        self.options = options
        self.say = say
        self.zookeeper = zookeeper
        self.chance = random.Random(options.seed)
        self.run = uuid.uuid4().hex[:6]
        self.judge = Judge()
        self.bridge = Bridge(config, logs, options.sabotage)
        self.names = [f"c{self.run}d{number}" for number in range(options.devices)]
        clean = options.session == "clean"
        waits = not clean and options.delivery == "broker"
        self.fleet = Fleet(self.judge, self.run, self.names, brokers(lab.layout), clean=clean, waits=waits)
        self.kafka = Kafka(self.judge, self.run, lab.layout.bootstrap, self.names)
        self.ends = Ends()
        self.observers = [Observer(broker, self.ends) for broker in load(lab.config_path).brokers]
        self.fleet.broken = self.ends.watch
        self.fleet.reached = self.ends.reached
        if waits:
            self.ends.forgot = self.judge.forgot
        self.outcome = Outcome(Scenario("", "", "", lambda _: None))
        self.unbalanced: list[str] = []
        """What was wrong with a scrape."""
        self.begun = time.monotonic()
        self._over = Event()
        self._watch = Thread(target=self._look, name="scales", daemon=True)

    # -- the run

    def open(self) -> None:
        """Start the bridge, the devices and the load; returns when everything flows."""
        self.bridge.start()
        self.kafka.start()
        for observer in self.observers:
            observer.start()
        self.until(lambda: all(one.watching.is_set() for one in self.observers), 30, "the brokers are observed")
        self.fleet.start()
        self.listening()
        # half of what devices send goes to devices and so comes down as well
        self.fleet.rate = self.options.rate
        self.kafka.rate = self.options.rate / 2
        self.until(lambda: all(self._flows() for _ in range(STEADY_TIMES)), 300, "the load is steady")
        self.judge.close(self.judge.mark())
        self._watch.start()
        self.begun = time.monotonic()

    def close(self) -> None:
        """End everything."""
        self._over.set()
        self.fleet.rate = self.kafka.rate = 0.0
        self.fleet.stop()
        self.kafka.stop()
        for observer in self.observers:
            observer.stop()
        self.bridge.kill()

    def play(self, scenario: Scenario) -> Outcome:
        """Play one scenario, mend what it broke, and judge it."""
        begun = time.monotonic()
        self.outcome = outcome = Outcome(scenario)
        for device in self.fleet.devices.values():
            device.roams = scenario.roaming
        time.sleep(self.options.calm)  # the length of an act, not a wait for something
        try:
            scenario.play(self)
            self._mend()
        except (LabError, TimeoutError) as error:
            outcome.faults.append(str(error))
        self._judge(outcome)
        outcome.seconds = time.monotonic() - begun
        return outcome

    # -- verbs

    def blow(self, text: str = "") -> None:
        """Now: recovery counts from here."""
        if text:
            self.say(f"    {text}")
        self.judge.blow(time.monotonic())

    def recovered(self, *, up: float | None = None, down: float | None = None, of: Collection[str] = ()) -> None:
        """Wait until every stream goes on, and hold the slowest of each direction against its bound (seconds).

        `of`: only these brokers and devices.
        """
        groups = {group for group in self.expected() if not of or group[1] in of}
        self._await(groups, PATIENCE)
        for direction, bound in (("up", up), ("down", down)):
            if bound is not None:
                self._note(direction, bound, {group for group in groups if group[0] == direction})

    def expected(self) -> set[Group]:
        """The groups that should go on now: brokers where devices listen, and these devices."""
        at_work = [broker.name for broker in self.fleet.brokers if self.fleet.at(broker.name)]
        ups: set[Group] = {("up", broker, kind) for broker in at_work for kind in (BACK_END, "mqtt")}
        return ups | {("down", name) for name in self.fleet.listening if name not in self.kafka.silent}

    def until(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for a condition. Raises LabError, saying what did not come."""
        if not wait_until(condition, timeout):
            raise LabError(f"not within {timeout:.0f} s: {what}")

    def listening(self, timeout: float = 60.0) -> None:
        """Wait until every device listens (again)."""
        self.until(lambda: len(self.fleet.listening) == len(self.names), timeout, "the devices listen")

    def shuffle(self, count: int) -> list[str]:
        """Some devices, drawn by the seed, leave for the next broker; returns at once."""
        names = self.chance.sample(self.fleet.listening, count)
        for name in names:
            self.next_broker(name)
        return names

    def next_broker(self, name: str, *, politely: bool = True) -> None:
        """A device goes to the next broker: it leaves in order, or its connection breaks."""
        target, brokers = self.fleet.devices[name].target, self.fleet.brokers
        here = [broker.name for broker in brokers].index(target.name) if target else 0
        broker = brokers[(here + 1) % len(brokers)]
        if politely:
            self.fleet.move(name, broker)
        else:
            self.fleet.cut(name, broker)

    def blocked(self, broker: str, timeout: float) -> bool:
        """Wait until a broker acknowledges nothing to its devices any more; whether it came to that."""
        return wait_until(lambda: self.fleet.stalled(broker) > BLOCKED, timeout)

    def arrived(self, names: Collection[str]) -> None:
        """Wait until these devices listen where they want to be; only what they get there counts as progress."""
        self.until(lambda: all(self.fleet.devices[name].at_target for name in names), 60, "the devices have moved")
        self.judge.afresh(names)

    def spread(self) -> None:
        """Every device goes to the broker where it began."""
        for at, name in enumerate(self.names):
            home = self.fleet.brokers[at % len(self.fleet.brokers)]
            if self.fleet.devices[name].target != home:
                self.fleet.move(name, home)
        self.arrived(self.names)

    def wipe(self, node: str) -> None:
        """Delete the store of a broker that does not run."""
        shutil.rmtree(self.lab.layout.directory(self.lab.layout.service(f"{node}.activemq")) / "data")
        self.judge.wiped(node)

    def freely(self, names: Sequence[str]) -> None:
        """Continue frozen servers without waiting for their answer."""
        running = processes.running(self.lab.layout.state)
        for name in names:
            processes.send(running[name], signal.SIGCONT)

    def replicated(self) -> None:
        """Wait until Kafka has every copy again."""
        topics.create(self.lab.layout, load(self.lab.config_path))

    def silence(self, most: float, of: Collection[str]) -> None:
        """Since the scenario began, none of these brokers or devices may have been silent for longer."""
        most *= self.options.slack
        for group, seconds in self.judge.silences().items():
            if group[1] in of and seconds > most:
                self.outcome.faults.append(f"{' '.join(group)}: silent for {seconds:.1f} s, at most {most:.0f} s")

    # -- inside

    def _flows(self) -> bool:
        """Whether every stream brings something soon."""
        self.blow()
        soon = max(STEADY_WITHIN, 5 * self.options.devices / self.options.rate) * self.options.slack
        return self._await(self.expected(), soon)

    def _await(self, groups: set[Group], timeout: float) -> bool:
        return wait_until(lambda: groups <= self.judge.progress().keys() or self._broken(), timeout)

    def _note(self, direction: str, bound: float, groups: set[Group]) -> None:
        times = self.judge.progress()
        bound *= self.options.slack
        late = [group for group in groups if group not in times]
        slowest = late[0] if late else max(groups, key=lambda group: times[group])
        recovery = Recovery(direction, bound, None if late else times[slowest], " ".join(slowest[1:]))
        self.outcome.recoveries.append(recovery)
        if not recovery.met:
            took = "never" if recovery.seconds is None else f"after {recovery.seconds:.1f} s"
            self.outcome.faults.append(f"{direction}: {recovery.slowest} went on {took}, bound {bound:.0f} s")
        if late:
            self.outcome.faults += self.bridge.inquire()

    def _broken(self) -> bool:
        for part in (self.fleet, self.kafka):
            if part.failure is not None:
                raise LabError(f"the load broke: {part.failure!r}")
        return False

    def _mend(self) -> None:
        """Bring back whatever a scenario left broken."""
        self.lab.up()
        self.bridge.heal()
        self.listening()

    def settle(self) -> tuple[dict[Stream, int], bool]:
        """Wait for everything that was sent until now; how far that is, and whether all of it was answered."""
        mark = self.judge.mark()
        settled = wait_settled((self.fleet, self.kafka), time.monotonic(), PATIENCE)
        if self.options.session == "persistent" and not self._arrived(mark, TOUR):
            self._tour()
        self._arrived(mark, PATIENCE)
        return mark, settled

    def _arrived(self, mark: dict[Stream, int], timeout: float) -> bool:
        """Wait until nothing up to the mark is missing. Looked at rarely: counting takes CPU that the bridge needs."""
        return wait_until(lambda: not self.judge.missing(mark), timeout, LOOK)

    def _tour(self) -> None:
        """Every device visits every broker: what waits there for the session that it left behind comes."""
        for _ in self.fleet.brokers:
            for name in self.names:
                self.next_broker(name)
            self.until(lambda: all(self.fleet.devices[name].at_target for name in self.names), 60, "devices on tour")
            time.sleep(LINGER)

    def _judge(self, outcome: Outcome) -> None:
        mark, settled = self.settle()
        outcome.counts = {leg: self.judge.count(leg, mark) for leg in LEGS}
        self.judge.close(mark)
        outcome.faults += [] if settled else ["what was sent got no answer"]
        outcome.faults += list(self.judge.strays())
        for leg, count in outcome.counts.items():
            outcome.faults += faults(leg, count, outcome.scenario.duplicates)

    def _look(self) -> None:
        """Once a second: the memory of every process, and whether its books balance."""
        while not self._over.wait(1.0):
            self.bridge.weigh(time.monotonic())
            self.unbalanced += self.bridge.audit()
