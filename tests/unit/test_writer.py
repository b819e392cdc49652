"""The elected watcher's pen: compare-and-set under a fence, against ZooKeeper in memory."""

from __future__ import annotations

import posixpath
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Entry, Part
from kalinka_jms.registry.writer import Writer
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.testing.zookeeper import FakeClient, FakeZooKeeper

ROOT = "/kalinka/devices"
ZNODES = Znodes(ROOT)


def part(broker: str, *connections: int) -> Part:
    return Part(broker, tuple(Filter("f", f"ID:{broker}:{connection}:-1:1") for connection in connections))


class Pen:
    """One watcher of one broker."""

    def __init__(self, zookeeper: FakeZooKeeper, broker: str) -> None:
        self.zookeeper = zookeeper
        self.broker = broker
        self.client: FakeClient = zookeeper.client()
        self.failures: list[RegistryError] = []
        self.fence = f"{ZNODES.election(broker)}/{len(zookeeper.clients)}"
        zookeeper.ensure(ZNODES.election(broker))
        zookeeper.create(self.fence, b"", self.client)
        self.writer = Writer(self.client, ROOT, broker, self.fence, self.failures.append)
        self.writer.prepare()

    def write(self, device: str, *connections: int, live: bool = True) -> None:
        self.writer.apply(device, part(self.broker, *connections) if connections else None, live)


def stored(zookeeper: FakeZooKeeper, device: str = "d") -> Entry:
    znode = zookeeper.znodes.get(ZNODES.device(device))
    return Entry.decode(znode.data) if znode else Entry()


def shard(device: str) -> str:
    return posixpath.dirname(ZNODES.device(device))


@pytest.fixture
def zookeeper() -> FakeZooKeeper:
    return FakeZooKeeper()


def test_a_part_is_written_and_removed(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    pen.write("d", 1)
    assert pen.writer.pending == 1
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("a",)
    pen.write("d")
    zookeeper.settle()
    assert ZNODES.device("d") not in zookeeper.znodes
    assert pen.writer.pending == 0
    assert pen.writer.flush(0)


def test_two_brokers_share_an_entry(zookeeper: FakeZooKeeper) -> None:
    a, b = Pen(zookeeper, "a"), Pen(zookeeper, "b")
    for pen in (a, b, a):
        pen.write("d", 1)
        zookeeper.settle()
    assert stored(zookeeper).brokers == ("b", "a")  # a said nothing new
    a.write("d", 2)
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("a", "b")
    b.write("d")
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("a",)


def test_both_write_at_once(zookeeper: FakeZooKeeper) -> None:
    a, b = Pen(zookeeper, "a"), Pen(zookeeper, "b")
    a.write("d", 1)
    b.write("d", 1)
    zookeeper.settle()
    assert set(stored(zookeeper).brokers) == {"a", "b"}
    a.write("d")
    b.write("d")
    zookeeper.settle()
    assert not stored(zookeeper)


@pytest.mark.parametrize("read", [1, 2, 3])
def test_a_znode_made_anew_does_not_pass_for_the_old_one(zookeeper: FakeZooKeeper, read: int) -> None:
    """Its version is 0 again, as it was when b read it; whatever b has read when the old one goes."""
    a, b = Pen(zookeeper, "a"), Pen(zookeeper, "b")
    a.write("d", 1)
    zookeeper.settle()
    b.write("d", 1)
    for _ in range(read):  # the entry, the shard, the entry again
        b.client.answer()
    for connections in ((), (2,)):
        a.write("d", *connections)
        while a.client.answer():
            pass
    zookeeper.settle()
    assert stored(zookeeper).part("a") == Part("a", part("a", 2).filters, 1)
    assert stored(zookeeper).brokers == ("b", "a")


def test_deletions_beside_it_delay_a_write_and_no_more(zookeeper: FakeZooKeeper) -> None:
    a, b = Pen(zookeeper, "a"), Pen(zookeeper, "b")
    beside = next(name for name in map(str, range(10_000)) if shard(name) == shard("d"))
    a.write("d", 1)
    a.write(beside, 1)
    zookeeper.settle()
    b.write("d", 1)
    for _ in range(3):
        b.client.answer()
    a.write(beside)
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("b", "a")
    assert (b.writer.pending, b.failures) == (0, [])


def test_what_is_there_already_is_not_written(zookeeper: FakeZooKeeper) -> None:
    Pen(zookeeper, "a").write("d", 1)
    zookeeper.settle()
    pen = Pen(zookeeper, "a")
    pen.write("d", 1)
    pen.write("e")
    zookeeper.settle()
    assert (pen.writer.pending, pen.writer.written) == (0, 0)


def test_of_the_wishes_that_wait_the_last_counts(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    for number in range(1, 10):
        pen.write("d", number)
    zookeeper.settle()
    assert stored(zookeeper).part("a") == Part("a", part("a", 9).filters, 1)
    assert pen.writer.written <= 2


def test_that_a_wish_was_live_is_not_forgotten_for_a_later_one(zookeeper: FakeZooKeeper) -> None:
    b, a = Pen(zookeeper, "b"), Pen(zookeeper, "a")
    b.write("d", 1)
    zookeeper.settle()
    a.write("d", 1, 2, live=True)
    a.write("d", 2, live=False)
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("a", "b")


def test_but_it_ends_with_the_part(zookeeper: FakeZooKeeper) -> None:
    b, a = Pen(zookeeper, "b"), Pen(zookeeper, "a")
    b.write("d", 1)
    zookeeper.settle()
    a.write("d", 1, live=True)
    a.write("d")
    a.write("d", 2, live=False)
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("b", "a")


def test_who_was_replaced_writes_nothing(zookeeper: FakeZooKeeper) -> None:
    old = Pen(zookeeper, "a")
    old.write("known", 1)
    zookeeper.settle()
    zookeeper.delete(old.fence)
    old.write("known", 2)
    old.write("new", 2)
    zookeeper.settle()
    assert stored(zookeeper, "known").part("a") == Part("a", part("a", 1).filters, 1)
    assert not stored(zookeeper, "new")
    assert len(old.failures) == 1
    with pytest.raises(RegistryError, match="no longer the watcher"):
        old.writer.flush(0)
    with pytest.raises(RegistryError):
        old.writer.declare({"state": "down"})
    assert old.writer.state() == {}


def test_a_new_session_does_not_bring_the_office_back(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    pen.write("d", 1)
    pen.client.expire()
    pen.client.reconnect()
    zookeeper.settle()
    assert not stored(zookeeper)
    assert isinstance(pen.writer.failure, RegistryError)


def test_a_connection_that_breaks_in_the_middle_loses_and_doubles_nothing(zookeeper: FakeZooKeeper) -> None:
    a, b = Pen(zookeeper, "a"), Pen(zookeeper, "b")
    for device in "defg":
        b.write(device, 1)
    zookeeper.settle()
    for device in "defg":
        a.write(device, 1)
    a.client.answer()  # read, and asked to write
    a.client.lose()
    zookeeper.settle()
    assert a.writer.pending == 4
    a.client.reconnect()
    zookeeper.settle()
    assert [stored(zookeeper, device).brokers for device in "defg"] == [("a", "b")] * 4
    assert a.writer.pending == 0


def test_nonsense_in_a_znode_is_written_anew(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    zookeeper.create(ZNODES.device("d"), b"nonsense")
    pen.write("d", 1)
    zookeeper.settle()
    assert stored(zookeeper).brokers == ("a",)


def test_a_shard_that_is_gone_ends_the_term(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    zookeeper.delete(ZNODES.device("d").rpartition("/")[0])
    pen.write("d", 1)
    zookeeper.settle()
    assert "is gone" in str(pen.writer.failure)


def test_after_close_nothing_is_written(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    pen.writer.close()
    pen.write("d", 1)
    zookeeper.settle()
    assert not stored(zookeeper)
    assert not pen.failures


def test_the_state_of_a_broker(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    assert pen.writer.state() == {}
    pen.writer.declare({"state": "up", "seen": {"ID:a-4": 784}})
    assert pen.writer.state() == {"state": "up", "seen": {"ID:a-4": 784}}
    zookeeper.set(ZNODES.broker("a"), b"nonsense")
    assert pen.writer.state() == {}


def test_all_devices_are_found_by_name(zookeeper: FakeZooKeeper) -> None:
    pen = Pen(zookeeper, "a")
    names = {"d", "设备", "x:\\ y", "%41"}
    for name in names:
        pen.write(name, 1)
    zookeeper.settle()
    assert pen.writer.devices() == names


STEPS = ["write", "write", "leave", "answer", "answer", "lose", "reconnect", "expire", "replace"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("ab"), st.sampled_from("de")), max_size=60))
def test_in_the_end_the_registry_holds_the_last_wishes(steps: list[tuple[str, str, str]]) -> None:
    """Two watchers write; connections break, sessions end, watchers are replaced: nothing is lost, nothing stays."""
    zookeeper = FakeZooKeeper()
    pens = {broker: Pen(zookeeper, broker) for broker in "ab"}
    wishes: dict[tuple[str, str], int] = {}
    chance = random.Random(len(steps))
    for number, (step, broker, device) in enumerate(steps, 1):
        pen = pens[broker]
        if step in ("write", "leave"):
            wishes[broker, device] = number if step == "write" else 0
            pen.write(device, *([number] if step == "write" else []), live=chance.random() < 0.5)
        elif step == "replace":
            zookeeper.delete(pen.fence) if pen.fence in zookeeper.znodes else None
            pens[broker] = Pen(zookeeper, broker)
            rewrite(pens[broker], wishes)
        else:
            getattr(pen.client, step)()
    for broker, pen in list(pens.items()):
        pen.client.reconnect()
        zookeeper.settle()
        if pen.writer.failure:
            pens[broker] = Pen(zookeeper, broker)
            rewrite(pens[broker], wishes)
    zookeeper.settle()
    for device in "de":
        found = {part.broker: part.consumers for part in stored(zookeeper, device).parts}
        wanted = {broker: part(broker, wishes.get((broker, device), 0)) for broker in "ab"}
        assert found == {b: p.consumers for b, p in wanted.items() if wishes.get((b, device))}


def rewrite(pen: Pen, wishes: dict[tuple[str, str], int]) -> None:
    """What a watcher does at its first replay: it says everything again, and that what is not there is not there."""
    for device in "de":
        number = wishes.get((pen.broker, device), 0)
        pen.write(device, *([number] if number else []), live=False)
