"""The reading cache of the registry, against ZooKeeper in memory."""

from __future__ import annotations

import pytest

from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Entry, Part
from kalinka_jms.registry.owners import UNKNOWN, Owners
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.testing.zookeeper import FakeZooKeeper

ROOT = "/kalinka/devices"
ZNODES = Znodes(ROOT)


def entry(*brokers: str) -> Entry:
    """The last is the newest."""
    parts = [Part(name, (Filter("f", f"ID:{name}:1:-1:1"),), number) for number, name in enumerate(brokers)]
    return Entry.of(*parts)


class Scene:
    def __init__(self, capacity: int = 100) -> None:
        self.zookeeper = FakeZooKeeper()
        self.client = self.zookeeper.client()
        self.changes: list[tuple[str, tuple[str, ...] | None]] = []
        self.owners = Owners(self.client, ROOT, self._changed, capacity)
        for path in (*ZNODES.shards, "/kalinka/brokers"):
            self.zookeeper.ensure(path)

    def _changed(self, device: str, entry: Entry | None) -> None:
        self.changes.append((device, entry.brokers if entry else None))

    def told(self) -> list[tuple[str, tuple[str, ...] | None]]:
        """What was told since it was last asked, when everything is quiet."""
        self.zookeeper.settle()
        changes, self.changes = self.changes, []
        return changes

    def write(self, device: str, *brokers: str) -> None:
        path = ZNODES.device(device)
        if not brokers:
            self.zookeeper.delete(path)
        elif path in self.zookeeper.znodes:
            self.zookeeper.set(path, entry(*brokers).encode())
        else:
            self.zookeeper.create(path, entry(*brokers).encode())

    def declare(self, broker: str, state: bytes) -> None:
        path = ZNODES.broker(broker)
        self.zookeeper.ensure(path)
        self.zookeeper.set(path, state)


def test_what_is_not_known_is_told_when_it_is() -> None:
    scene = Scene()
    scene.write("d", "a", "b")
    assert scene.owners.get("d") is UNKNOWN
    assert scene.owners.get("d") is UNKNOWN
    assert scene.told() == [("d", ("b", "a"))]
    assert scene.owners.get("d") == entry("a", "b")


def test_that_a_device_is_absent_is_told_too() -> None:
    scene = Scene()
    assert scene.owners.get("d") is UNKNOWN
    assert scene.told() == [("d", None)]
    assert scene.owners.get("d") is None


def test_every_change_is_told_once() -> None:
    scene = Scene()
    scene.owners.get("d")
    scene.told()
    for brokers in (("a",), ("a", "b"), ("b",), (), ("a",)):
        scene.write("d", *brokers)
        assert scene.told() == [("d", tuple(reversed(brokers)) or None)]


def test_a_znode_made_between_the_look_and_the_watch_is_not_missed() -> None:
    scene = Scene()
    scene.owners.get("d")
    scene.client.answer()  # there is no such znode
    scene.write("d", "a")
    assert scene.told() == [("d", ("a",))]


def test_a_change_while_it_is_read_again_is_not_missed() -> None:
    scene = Scene()
    scene.owners.get("d")
    scene.told()
    scene.write("d", "a")
    scene.client.answer()  # the watch
    scene.write("d", "b")
    assert scene.told()[-1] == ("d", ("b",))


def test_what_does_not_change_is_not_told_again() -> None:
    scene = Scene()
    scene.write("d", "a")
    scene.owners.get("d")
    scene.told()
    scene.zookeeper.set(ZNODES.device("d"), entry("a").encode())
    assert scene.told() == []


def test_while_zookeeper_is_away_what_is_known_goes_on() -> None:
    scene = Scene()
    scene.write("d", "a")
    scene.owners.get("d")
    scene.told()
    scene.client.lose()
    assert not scene.owners.available
    assert scene.owners.get("d") == entry("a")
    assert scene.owners.get("e") is UNKNOWN
    assert scene.told() == []


@pytest.mark.parametrize("expires", [False, True])
def test_when_it_is_back_only_differences_are_told(expires: bool) -> None:
    scene = Scene()
    for device in ("moved", "same", "left"):
        scene.write(device, "a")
        scene.owners.get(device)
    scene.told()
    scene.owners.get("asked for before")
    scene.client.expire() if expires else scene.client.lose()
    scene.owners.get("asked for meanwhile")
    scene.write("moved", "b")
    scene.write("left")
    assert scene.told() == []
    scene.client.reconnect()
    expected = [("moved", ("b",)), ("left", None), ("asked for before", None), ("asked for meanwhile", None)]
    assert sorted(scene.told()) == sorted(expected)
    scene.write("same", "b")  # it is watched again
    assert scene.told() == [("same", ("b",))]


def test_the_oldest_devices_are_let_go() -> None:
    scene = Scene(capacity=2)
    for device in ("d", "e"):
        scene.owners.get(device)
        scene.told()
    scene.owners.get("d")  # used last
    scene.owners.get("f")
    scene.told()
    scene.write("e", "a")
    assert scene.told() == []
    scene.write("d", "a")
    assert scene.told() == [("d", ("a",))]
    assert scene.owners.get("e") is UNKNOWN
    assert scene.told() == [("e", ("a",))]


def test_a_pinned_device_is_never_let_go() -> None:
    scene = Scene(capacity=1)
    scene.owners.pin("d")
    for device in ("e", "f", "g"):
        scene.owners.get(device)
    scene.told()
    scene.write("d", "a")
    assert scene.told() == [("d", ("a",))]
    scene.owners.unpin("d")
    scene.owners.unpin("d")
    scene.owners.get("h")
    scene.told()
    scene.write("d", "b")
    assert scene.told() == []


def test_a_device_may_be_pinned_and_let_go_before_it_is_known() -> None:
    scene = Scene(capacity=1)
    scene.owners.pin("d")
    scene.owners.unpin("d")
    assert scene.told() == [("d", None)]


def test_what_is_waited_for_is_not_let_go() -> None:
    scene = Scene(capacity=1)
    for device in ("d", "e", "f"):
        assert scene.owners.get(device) is UNKNOWN
    assert scene.told() == [("d", None), ("e", None), ("f", None)]


def test_brokers_that_are_down_do_not_count() -> None:
    scene = Scene()
    scene.write("both", "a", "b")
    scene.write("one", "b")
    scene.owners.get("both")
    scene.owners.get("one")
    scene.told()
    scene.declare("b", b'{"state": "down"}')
    assert sorted(scene.told()) == [("both", ("a",)), ("one", None)]
    scene.write("one", "b")
    assert scene.told() == []
    scene.declare("b", b'{"state": "up"}')
    assert sorted(scene.told()) == [("both", ("b", "a")), ("one", ("b",))]


def test_a_broker_that_was_down_before_is_noticed() -> None:
    scene = Scene()
    scene.declare("a", b'{"state": "down"}')
    scene.write("d", "a")
    scene.owners.get("d")
    assert scene.told()[-1] == ("d", None)


@pytest.mark.parametrize("state", [b"", b"{}", b"[]", b"nonsense"])
def test_a_broker_of_which_nothing_is_known_counts(state: bytes) -> None:
    scene = Scene()
    scene.declare("a", state)
    scene.write("d", "a")
    scene.owners.get("d")
    assert scene.told() == [("d", ("a",))]


def test_an_entry_that_cannot_be_read_counts_as_absent() -> None:
    scene = Scene()
    scene.zookeeper.create(ZNODES.device("d"), b"nonsense")
    scene.owners.get("d")
    assert scene.told() == [("d", None)]


def test_after_close_nothing_is_told() -> None:
    scene = Scene()
    scene.owners.get("d")
    scene.told()
    scene.owners.close()
    scene.write("d", "a")
    assert scene.told() == []


@pytest.mark.parametrize("device", ["d", "a/b", "..", "%2e", "Gerät 7", "设备", "x:\\ y", "\x01"])
def test_any_device_has_a_place(device: str) -> None:
    scene = Scene()
    path = ZNODES.device(device)
    assert path.isascii()
    assert path.count("/") == ROOT.count("/") + 2
    scene.write(device, "a")
    scene.owners.get(device)
    assert scene.told() == [(device, ("a",))]
