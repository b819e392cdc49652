"""Two brokers, their watchers and one registry, with everything in any order.

A device connects to either broker, leaves old connections half-open, subscribes and unsubscribes; links break, watchers
are replaced, brokers restart, replays interleave with what happens meanwhile. Two things must hold: when all is quiet
the registry equals the truth; and it never points away from a device that stayed connected where it came last.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kalinka_jms.registry.advisories import Begun, Ended, Filter
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.roster import Change, Roster

ECHO = "echo"
DEVICE, NEIGHBOUR = "d", "n"
"""One device is looked at. Of others it matters only that they take connection numbers, and are replayed too."""


def presence(filter: str) -> tuple[str, ...] | None:
    return (filter.partition(".")[0],)


@dataclass
class Side:
    """A broker with its watcher, and the wire between them."""

    name: str
    run: int = 0
    connections: int = 0
    consumers: int = 0
    present: dict[str, Filter] = field(default_factory=dict)
    wire: deque[Begun | Ended | str] = field(default_factory=deque)
    linked: bool = False
    missed: bool = False
    kept: dict[str, int] = field(default_factory=dict)
    found: bool = False
    """Whether this watcher has looked through what earlier ones left in the registry."""
    said: int = 0
    """How far into the wire live advisories reach: they keep their order, whatever a replay does."""

    def __post_init__(self) -> None:
        self.roster = Roster(self.name, presence, self.kept)

    def cut(self) -> None:
        self.wire.clear()
        self.linked = False

    def say(self, advisory: Begun | Ended, chance: random.Random) -> None:
        if not self.linked:
            return
        # while a replay is on its way: anywhere in it
        at = chance.randint(self.said, len(self.wire)) if ECHO in self.wire else len(self.wire)
        self.wire.insert(at, advisory)
        self.said = at + 1

    def hear(self) -> Begun | Ended | str:
        self.said = max(0, self.said - 1)
        return self.wire.popleft()

    @property
    def consumers_of_device(self) -> list[str]:
        return [consumer for consumer, filter in self.present.items() if DEVICE in presence(filter.topic)]

    def begin(self, connection: str, chance: random.Random, device: str = DEVICE) -> None:
        self.consumers += 1
        filter = Filter(f"{device}.{self.consumers}", f"{connection}:-1:{self.consumers}")
        self.present[filter.consumer] = filter
        self.say(Begun(filter), chance)

    def end(self, consumer: str, chance: random.Random) -> None:
        del self.present[consumer]
        self.say(Ended(consumer), chance)


def connection_of(consumer: str) -> str:
    return consumer.rsplit(":", 2)[0]


class World:
    """The device's truth, the registry's view, and what is on its way from one to the other."""

    def __init__(self) -> None:
        self.sides = {name: Side(name) for name in "ab"}
        self.entry = Entry()
        self.latest = ("", "")  # broker and connection to which the device came last
        self.firm: str | None = None  # that broker, once the registry was told and nothing older is unsaid
        for side in self.sides.values():
            self.resubscribe(side, random.Random(0))
            self.deliver(side, random.Random(0))

    # -- what happens at a broker

    def connect(self, side: Side, chance: random.Random) -> None:
        """The device comes, half the time with two filters; it may be missed (the race at SUBSCRIBE)."""
        side.connections += 1
        self.latest, self.firm = (side.name, f"ID:{side.name}{side.run}-4:{side.connections}"), None
        missed, linked = chance.random() < 0.2, side.linked
        side.linked, side.missed = linked and not missed, side.missed or missed
        for _ in range(chance.randint(1, 2)):
            side.begin(self.latest[1], chance)
        side.linked = linked

    def neighbour_connects(self, side: Side, chance: random.Random) -> None:
        side.connections += 1
        side.begin(f"ID:{side.name}{side.run}-4:{side.connections}", chance, NEIGHBOUR)

    def subscribe_to_more(self, side: Side, chance: random.Random) -> None:
        broker, connection = self.latest
        if broker == side.name and connection in map(connection_of, side.present):
            self.firm = None
            side.begin(connection, chance)

    def unsubscribe(self, side: Side, chance: random.Random) -> None:
        if side.consumers_of_device:
            self.leave(side, [chance.choice(side.consumers_of_device)], chance)

    def disconnect(self, side: Side, chance: random.Random) -> None:
        """The end of a connection; not always the last one, half-open ones are found late."""
        if side.consumers_of_device:
            gone = connection_of(chance.choice(side.consumers_of_device))
            self.leave(side, [one for one in side.consumers_of_device if connection_of(one) == gone], chance)

    def leave(self, side: Side, consumers: list[str], chance: random.Random) -> None:
        if self.latest == (side.name, connection_of(consumers[0])):
            self.firm = None
        for consumer in consumers:
            side.end(consumer, chance)

    def restart(self, side: Side, chance: random.Random) -> None:
        side.run, side.connections = side.run + 1, 0
        side.present.clear()
        side.cut()
        self.firm = None if self.firm == side.name else self.firm

    # -- what happens to its watcher

    def resubscribe(self, side: Side, chance: random.Random) -> None:
        side.roster.begin()
        shown = [Begun(filter) for filter in side.present.values()]
        side.wire = deque([*chance.sample(shown, len(shown)), ECHO])
        side.linked, side.missed, side.said = True, False, 0

    def lose_link(self, side: Side, chance: random.Random) -> None:
        side.cut()

    def replace_watcher(self, side: Side, chance: random.Random) -> None:
        if chance.random() < 0.5:  # the one before never wrote down what it had seen
            side.kept = {}
        if self.firm != side.name and not self.has_no_news(side, side.kept):
            self.firm = None
        side.roster, side.found = Roster(side.name, presence, side.kept), False
        side.cut()

    def deliver_some(self, side: Side, chance: random.Random) -> None:
        for _ in range(chance.randint(0, len(side.wire))):
            self.deliver_one(side)

    def deliver(self, side: Side, chance: random.Random) -> None:
        while side.wire:
            self.deliver_one(side)

    def deliver_one(self, side: Side) -> None:
        advisory = side.hear()
        if isinstance(advisory, str):
            self.settle(side)
            return
        live, told = not side.roster.replaying, set(map(connection_of, self.told(side)))
        self.apply(side, side.roster.feed(advisory))
        if live and isinstance(advisory, Begun) and connection_of(advisory.filter.consumer) not in told:
            self.note(side, advisory.filter.consumer)

    def settle(self, side: Side) -> None:
        seen, told = side.roster.seen, self.told(side)
        self.apply(side, side.roster.settle())
        side.kept = dict(side.roster.seen)
        if DEVICE not in side.roster and not side.found:
            self.entry = self.entry.merged(side.name, None, live=False)
        side.found = True
        for consumer in side.consumers_of_device:
            run, number = side.present[consumer].connection
            if (
                consumer in self.told(side)
                and connection_of(consumer) not in map(connection_of, told)
                and number > seen.get(run, -1)
            ):
                self.note(side, consumer)

    def told(self, side: Side) -> frozenset[str]:
        """The consumers that the registry has of a broker."""
        part = self.entry.part(side.name)
        return part.consumers if part else frozenset()

    def apply(self, side: Side, changes: tuple[Change, ...]) -> None:
        for change in (change for change in changes if change.device == DEVICE):
            self.entry = self.entry.merged(side.name, change.part, change.live)

    def note(self, side: Side, consumer: str) -> None:
        """The registry was told where the device came last; firm if no other broker has anything older to say."""
        if self.latest == (side.name, connection_of(consumer)) and consumer in side.present:
            others = [other for other in self.sides.values() if other is not side]
            self.firm = side.name if all(self.has_no_news(other, other.roster.seen) for other in others) else None

    def has_no_news(self, side: Side, seen: Mapping[str, int]) -> bool:
        """Whether all it could tell is known, or not younger than what was seen."""
        news = set(side.consumers_of_device) - self.told(side)
        numbers = [side.present[consumer].connection for consumer in news]
        said = any(isinstance(said, Begun) and DEVICE in presence(said.filter.topic) for said in side.wire)
        return not said and all(number <= seen.get(run, -1) for run, number in numbers)

    # -- what must hold

    def points_to_who_stayed(self) -> None:
        assert self.firm is None or self.entry.brokers[0] == self.firm

    def be_quiet(self, side: Side, chance: random.Random) -> None:
        for one in self.sides.values():
            self.deliver(one, chance)
            if one.missed or not one.linked:
                self.resubscribe(one, chance)
                self.deliver(one, chance)
        told = {part.broker: part.consumers for part in self.entry.parts}
        truth = {one.name: set(one.consumers_of_device) for one in self.sides.values()}
        assert told == {name: consumers for name, consumers in truth.items() if consumers}


ACTIONS: tuple[Callable[[World, Side, random.Random], None], ...] = (
    World.connect,
    World.connect,
    World.neighbour_connects,
    World.subscribe_to_more,
    World.unsubscribe,
    World.disconnect,
    World.restart,
    World.resubscribe,
    World.lose_link,
    World.replace_watcher,
    World.deliver,
    World.deliver,
    World.deliver_some,
    World.be_quiet,
)


class Registry(RuleBasedStateMachine):
    """Single steps, which shrink well, and storms of them, which find more."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(action=st.sampled_from(ACTIONS), name=st.sampled_from("ab"), chance=st.randoms(use_true_random=False))
    def step(self, action: Callable[[World, Side, random.Random], None], name: str, chance: random.Random) -> None:
        action(self.world, self.world.sides[name], chance)

    @rule(seed=st.integers(0, 2**32))
    def storm(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(200):
            chance.choice(ACTIONS)(self.world, chance.choice(list(self.world.sides.values())), chance)
            self.world.points_to_who_stayed()

    @invariant()
    def points_to_who_stayed(self) -> None:
        self.world.points_to_who_stayed()

    def teardown(self) -> None:
        self.world.be_quiet(self.world.sides["a"], random.Random(0))


Registry.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestRegistry = Registry.TestCase
