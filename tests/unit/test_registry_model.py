"""The whole logic of the registry: rosters, entries and writers over ZooKeeper in memory, two watchers for each broker.

A device connects to either of two brokers, leaves half-open connections behind, subscribes and unsubscribes. Advisories
come late, those of different brokers in any order, mixed with replays at any moment. Watchers are elected, stopped,
killed and woken up, lose their links, their connections to ZooKeeper and their sessions, in the middle of anything.
Three things hold: when all is quiet the registry equals the truth; once it points to where the device is, it never
points away as long as the device stays; and who is not elected writes nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.advisories import Begun, Ended, Filter
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.roster import Change, Roster
from kalinka_jms.registry.writer import Writer
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.testing.zookeeper import FakeClient, FakeZooKeeper

ROOT = "/kalinka/devices"
ZNODES = Znodes(ROOT)
DEVICE, NEIGHBOUR = "d", "n"
ECHO = "echo"


def presence(filter: str) -> tuple[str, ...] | None:
    return (filter.partition(".")[0],)


def connection_of(consumer: str) -> str:
    return consumer.rsplit(":", 2)[0]


class Session(FakeClient):
    """One that says who it is, with everything it does."""

    def _carry_out(self, request: Any) -> Any:
        assert isinstance(self.server, ZooKeeper)
        self.server.actor = self
        try:
            return super()._carry_out(request)
        finally:
            self.server.actor = None


class ZooKeeper(FakeZooKeeper):
    """One that looks at every change of an entry: who made it, and whether that one may."""

    def __init__(self) -> None:
        super().__init__()
        self.actor: Session | None = None
        self.offices: dict[Session, tuple[str, str]] = {}
        """The broker of each session that stands or stood for election, and its place there."""
        self.entries: dict[str, Entry] = {}

    def client(self) -> Session:
        self.clients.append(Session(self))
        return self.clients[-1]  # type: ignore[return-value]

    def entry(self, device: str) -> Entry:
        znode = self.znodes.get(ZNODES.device(device))
        return Entry.decode(znode.data) if znode else Entry()

    def head(self, broker: str) -> str:
        """The place of the elected one; empty where nobody stands."""
        path = ZNODES.election(broker)
        return f"{path}/{min(names)}" if (names := self.children(path)) else ""

    def _changed(self, path: str) -> None:
        super()._changed(path)
        for device in (DEVICE, NEIGHBOUR):
            if path == ZNODES.device(device):
                before, after = self.entries.get(device, Entry()), self.entry(device)
                self.entries[device] = after
                self.look_at({part.broker for part in {*before.parts} ^ {*after.parts}})

    def look_at(self, changed: set[str]) -> None:
        assert self.actor is not None
        broker, place = self.offices[self.actor]
        assert changed <= {broker}, "it wrote another broker's part"
        assert self.head(broker) == place, "it is not elected"


class Broker:
    """Who really listens there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.run = self.connections = self.consumers = 0
        self.present: dict[str, Filter] = {}
        self.links: list[Watcher] = []

    def of(self, device: str) -> list[str]:
        return [consumer for consumer, filter in self.present.items() if device in presence(filter.topic)]

    def connection(self) -> str:
        self.connections += 1
        return f"ID:{self.name}{self.run}-4:{self.connections}"

    def begin(self, connection: str, device: str, chance: random.Random) -> None:
        self.consumers += 1
        filter = Filter(f"{device}.{self.consumers}", f"{connection}:-1:{self.consumers}")
        self.present[filter.consumer] = filter
        for watcher in self.links:
            watcher.hear(Begun(filter), chance)

    def end(self, consumer: str, chance: random.Random) -> None:
        del self.present[consumer]
        for watcher in self.links:
            watcher.hear(Ended(consumer), chance)


class Watcher:
    """One watcher of a broker: stands for election, and while it believes to be elected it does what a term does."""

    def __init__(self, broker: Broker, zookeeper: ZooKeeper, numbers: Iterator[int]) -> None:
        self.broker = broker
        self.zookeeper = zookeeper
        self.numbers = numbers
        self.client = zookeeper.client()
        self.place = ""
        self.asleep = False
        self.writer: Writer | None = None
        self.failed = False
        self.wire: deque[Begun | Ended | str] = deque()
        self.said = 0
        self.stand()

    def stand(self) -> None:
        self.place = f"{ZNODES.election(self.broker.name)}/{next(self.numbers):05}"
        self.zookeeper.create(self.place, b"", self.client)
        self.zookeeper.offices[self.client] = self.broker.name, self.place

    @property
    def elected(self) -> bool:
        return self.zookeeper.head(self.broker.name) == self.place

    @property
    def linked(self) -> bool:
        return self in self.broker.links

    def step(self) -> None:
        """What its own thread does: notice the end of its office, stand again, begin a term."""
        if self.asleep or not self.client.connected:
            return
        if self.writer is not None and (self.failed or self.place not in self.zookeeper.znodes):
            self.end_term()
        if self.place not in self.zookeeper.znodes:
            self.stand()
        if self.writer is None and self.elected:
            self.begin_term()

    def begin_term(self) -> None:
        self.failed, self.found = False, False
        self.writer = Writer(self.client, ROOT, self.broker.name, self.place, self.fail)
        self.writer.prepare()
        seen = self.writer.state().get("seen", {})
        self.roster = Roster(self.broker.name, presence, seen)

    def fail(self, error: RegistryError) -> None:
        self.failed = True

    def end_term(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = None
        self.cut()

    def cut(self) -> None:
        self.wire.clear()
        if self.linked:
            self.broker.links.remove(self)

    def subscribe(self, chance: random.Random) -> None:
        """A new link, or the same: a replay in any order."""
        if self.writer is None or self.asleep:
            return
        self.cut()
        self.roster.begin()
        shown = [Begun(filter) for filter in self.broker.present.values()]
        self.wire = deque([*chance.sample(shown, len(shown)), ECHO])
        self.said = 0
        self.broker.links.append(self)

    def hear(self, advisory: Begun | Ended, chance: random.Random) -> None:
        """While a replay is on its way: anywhere in it. Live advisories keep their own order."""
        at = chance.randint(self.said, len(self.wire)) if ECHO in self.wire else len(self.wire)
        self.wire.insert(at, advisory)
        self.said = at + 1

    def take(self) -> None:
        """One advisory, or the echo."""
        assert self.writer is not None
        self.said = max(0, self.said - 1)
        advisory = self.wire.popleft()
        if isinstance(advisory, str):
            self.settle()
        else:
            self.write(self.roster.feed(advisory))

    def settle(self) -> None:
        assert self.writer is not None
        self.write(self.roster.settle())
        if self.found:
            return
        try:
            for device in self.writer.devices():
                if device not in self.roster:
                    self.writer.apply(device, None, live=False)
        except RegistryError:
            self.failed = True
        self.found = True

    def write(self, changes: tuple[Change, ...]) -> None:
        assert self.writer is not None
        for change in changes:
            self.writer.apply(change.device, change.part, change.live)

    def declare(self) -> None:
        """As it does when the broker counts again, and when it leaves in order."""
        if self.writer is None or self.roster.replaying or self.writer.pending:
            return
        try:
            self.writer.declare({"state": "up", "seen": dict(self.roster.seen)})
        except RegistryError:
            self.failed = True

    def untold(self) -> set[str]:
        """Consumers of the device of which it has spoken, or may still speak."""
        if self.writer is None or not self.elected:
            return set()
        begun = [said.filter for said in self.wire if isinstance(said, Begun)]
        job = self.writer._jobs.get(DEVICE)
        parts = [self.roster.part(DEVICE), job.wish.part if job else None]
        told = {consumer for part in parts if part for consumer in part.consumers}
        return told | {filter.consumer for filter in begun if DEVICE in presence(filter.topic)}


class World:
    """The truth, the servers, and what is on its way from one to the other."""

    def __init__(self) -> None:
        self.zookeeper = ZooKeeper()
        self.brokers = {name: Broker(name) for name in "ab"}
        numbers = count()
        for name in self.brokers:
            self.zookeeper.ensure(ZNODES.election(name))
        self.watchers = [Watcher(self.brokers[name], self.zookeeper, numbers) for name in "aabb"]
        self.stays: list[tuple[str, str]] = []  # broker and connection of the device, the last one last
        self.firm: tuple[str, str] | None = None  # the last of them, once the registry was right about it
        self.told: set[str] = set()  # the consumers of it that the registry has had since

    # -- what devices do

    def connect(self, watcher: Watcher, chance: random.Random) -> None:
        """The device comes. Another connection of it to this broker is taken over, unless it is another client's."""
        broker = watcher.broker
        if chance.random() < 0.7:
            self.end(broker.of(DEVICE), broker, chance)
        connection = broker.connection()
        self.stays.append((broker.name, connection))
        self.firm = None  # also where the new connection ends before anybody looks
        for _ in range(chance.randint(1, 2)):
            broker.begin(connection, DEVICE, chance)

    def neighbour(self, watcher: Watcher, chance: random.Random) -> None:
        broker = watcher.broker
        if (there := broker.of(NEIGHBOUR)) and chance.random() < 0.5:
            broker.end(there[0], chance)
        else:
            broker.begin(broker.connection(), NEIGHBOUR, chance)

    def subscribe_to_more(self, watcher: Watcher, chance: random.Random) -> None:
        if self.stays and self.stays[-1][0] == watcher.broker.name:
            watcher.broker.begin(self.stays[-1][1], DEVICE, chance)

    def unsubscribe(self, watcher: Watcher, chance: random.Random) -> None:
        if there := watcher.broker.of(DEVICE):
            self.end([chance.choice(there)], watcher.broker, chance)

    def disconnect(self, watcher: Watcher, chance: random.Random) -> None:
        """The end of a connection; not always the last one, half-open ones are found late."""
        if there := watcher.broker.of(DEVICE):
            gone = connection_of(chance.choice(there))
            self.end([one for one in there if connection_of(one) == gone], watcher.broker, chance)

    def end(self, consumers: list[str], broker: Broker, chance: random.Random) -> None:
        for consumer in consumers:
            broker.end(consumer, chance)
        left = {connection_of(consumer) for consumer in broker.of(DEVICE)}
        self.stays = [stay for stay in self.stays if stay[0] != broker.name or stay[1] in left]

    def restart_broker(self, watcher: Watcher, chance: random.Random) -> None:
        broker = watcher.broker
        broker.run, broker.connections = broker.run + 1, 0
        broker.present.clear()
        for one in list(broker.links):
            one.cut()
        self.stays = [stay for stay in self.stays if stay[0] != broker.name]

    # -- what befalls watchers

    def sleep(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.asleep = True

    def wake(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.asleep = False

    def lose_link(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.cut()

    def subscribe(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.step()
        watcher.subscribe(chance)

    def step(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.step()

    def take_some(self, watcher: Watcher, chance: random.Random) -> None:
        for _ in range(chance.randint(0, len(watcher.wire))):
            if watcher.writer is not None and not watcher.asleep and watcher.wire:
                watcher.take()

    def declare(self, watcher: Watcher, chance: random.Random) -> None:
        if not watcher.asleep:
            watcher.declare()

    def kill(self, watcher: Watcher, chance: random.Random) -> None:
        """SIGKILL; the session runs out, and another process comes instead."""
        watcher.cut()
        watcher.writer = None
        watcher.client._asked.clear()
        watcher.client._urgent.clear()
        watcher.client.expire()
        self.zookeeper.clients.remove(watcher.client)
        place = self.watchers.index(watcher)
        self.watchers[place] = Watcher(watcher.broker, self.zookeeper, watcher.numbers)

    # -- what befalls ZooKeeper

    def answer(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.client.answer()

    def lose_connection(self, watcher: Watcher, chance: random.Random) -> None:
        watcher.client.lose()

    def reconnect(self, watcher: Watcher, chance: random.Random) -> None:
        if not watcher.client.connected:
            watcher.client.reconnect()

    def expire(self, watcher: Watcher, chance: random.Random) -> None:
        """What it had asked for was not carried out; it goes on until it notices, and asks again in a new session."""
        watcher.client.expire()
        if chance.random() < 0.5:
            watcher.client.reconnect()

    # -- what must hold

    def points_to_who_stays(self) -> None:
        stay = self.stays[-1] if self.stays else None
        if self.firm != stay:
            self.firm, self.told = stay if stay and self.is_right(stay) else None, set()
        if self.firm:
            entry = self.zookeeper.entry(DEVICE)
            assert entry.brokers[:1] == self.firm[:1], f"{entry.brokers} instead of {self.firm}"
            consumers = entry.parts[0].consumers
            self.told |= {consumer for consumer in consumers if connection_of(consumer) == self.firm[1]}
            assert self.told & set(self.brokers[self.firm[0]].of(DEVICE)) <= consumers, "it listens there no more?"

    def is_right(self, stay: tuple[str, str]) -> bool:
        """The registry points there, it was told of this connection, and nobody else has anything older to say."""
        name, connection = stay
        newest = next(iter(self.zookeeper.entry(DEVICE).parts), None)
        known = newest is not None and newest.broker == name and connection in map(connection_of, newest.consumers)
        return known and all(self.has_no_news(broker) for broker in self.brokers.values() if broker.name != name)

    def has_no_news(self, broker: Broker) -> bool:
        part = self.zookeeper.entry(DEVICE).part(broker.name)
        told = part.consumers if part else frozenset()
        untold = [watcher.untold() for watcher in self.watchers if watcher.broker is broker]
        return set(broker.of(DEVICE)).union(*untold) <= told

    def be_quiet(self, watcher: Watcher, chance: random.Random) -> None:
        for one in self.watchers:
            one.asleep = False
            self.reconnect(one, chance)
        for _ in range(3):  # to be deposed, to stand again, to be elected
            self.zookeeper.settle()
            for one in self.watchers:
                one.step()
        for one in self.watchers:
            if one.writer is not None and not one.linked:
                one.subscribe(chance)
            while one.wire and one.writer is not None:
                one.take()
        self.zookeeper.settle()
        for device in (DEVICE, NEIGHBOUR):
            told = {part.broker: part.consumers for part in self.zookeeper.entry(device).parts}
            truth = {name: set(broker.of(device)) for name, broker in self.brokers.items()}
            assert told == {name: consumers for name, consumers in truth.items() if consumers}

    def move(self, watcher: Watcher, chance: random.Random) -> None:
        """The device comes to a broker when nobody has anything older to say: whatever happens there, to its watchers
        and to ZooKeeper, that broker is the newest in the end, if that connection lasts. (An older one that outlives it
        proves nothing: the brokers' words of it may have had no order.)"""
        self.be_quiet(watcher, chance)
        self.connect(watcher, chance)
        came = self.stays[-1]
        for _ in range(chance.randint(0, 20)):
            mine = [one for one in self.watchers if one.broker is watcher.broker]
            chance.choice(MEANWHILE)(self, chance.choice(mine), chance)
        self.be_quiet(watcher, chance)
        if came in self.stays:
            assert self.zookeeper.entry(DEVICE).brokers[0] == watcher.broker.name


ACTIONS: tuple[Callable[[World, Watcher, random.Random], None], ...] = (
    *[World.connect] * 3,
    World.neighbour,
    World.subscribe_to_more,
    World.unsubscribe,
    *[World.disconnect] * 2,
    World.restart_broker,
    World.sleep,
    *[World.wake] * 2,
    World.lose_link,
    *[World.subscribe] * 3,
    *[World.step] * 4,
    *[World.take_some] * 6,
    World.declare,
    World.kill,
    *[World.answer] * 6,
    World.lose_connection,
    *[World.reconnect] * 3,
    World.expire,
    World.be_quiet,
    World.move,
)
MEANWHILE = tuple(action for action in ACTIONS if action not in (World.connect, World.be_quiet, World.move))


class Registry(RuleBasedStateMachine):
    """Single steps, which shrink well, and storms of them, which find more."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = ExitStack()
        self.patches.enter_context(patch("kalinka_jms.registry.znodes.SHARDS", 2))
        self.world = World()

    @rule(action=st.sampled_from(ACTIONS), place=st.integers(0, 3), chance=st.randoms(use_true_random=False))
    def step(self, action: Callable[[World, Watcher, random.Random], None], place: int, chance: random.Random) -> None:
        action(self.world, self.world.watchers[place], chance)

    @rule(seed=st.integers(0, 2**32))
    def storm(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(100):
            chance.choice(ACTIONS)(self.world, chance.choice(self.world.watchers), chance)
            self.world.points_to_who_stays()

    @invariant()
    def points_to_who_stays(self) -> None:
        self.world.points_to_who_stays()

    def teardown(self) -> None:
        try:
            self.world.be_quiet(self.world.watchers[0], random.Random(0))
        finally:
            self.patches.close()


Registry.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestRegistry = Registry.TestCase
