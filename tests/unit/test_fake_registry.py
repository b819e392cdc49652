"""The fake registry: what those who read the registry are told of a test's own doing."""

from __future__ import annotations

from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.owners import UNKNOWN, Directory
from kalinka_jms.testing.registry import FakeRegistry


def test_it_tells_what_changes_for_those_who_asked() -> None:
    registry, told = FakeRegistry(), list[tuple[str, tuple[str, ...]]]()
    owners: Directory = registry.owners(lambda device, entry: told.append((device, entry.brokers if entry else ())))
    registry.listen("other", "a")
    assert owners.get("d") is None
    registry.listen("d", "a")
    registry.listen("d", "b")
    entry = owners.get("d")
    assert isinstance(entry, Entry)
    assert entry.owners("mqtt.srv.mqtt.d.sub") == ("b", "a")
    registry.lose("b")
    registry.regain("b")
    registry.leave("d", "b")
    registry.leave("d", "a")
    assert told == [("d", b) for b in (("a",), ("b", "a"), ("a",), ("b", "a"), ("a",), ())]


def test_a_reader_whose_zookeeper_is_away_knows_nothing_new() -> None:
    registry, told = FakeRegistry(), list[str]()
    owners = registry.owners(lambda device, entry: told.append(device), knows=False)
    assert owners.get("d") is UNKNOWN
    registry.listen("d", "a")
    assert (owners.get("d"), told) == (UNKNOWN, [])
    owners.learn()
    assert told == ["d"]
    owners.forget_to_ask()
    registry.leave("d", "a")
    assert owners.get("d")
    assert not owners.available
    assert owners.get("e") is UNKNOWN


def test_pins_can_be_seen() -> None:
    owners = FakeRegistry().owners(lambda device, entry: None)
    owners.pin("d")
    assert owners.pinned == {"d"}
    owners.unpin("d")
    assert not owners.pinned
