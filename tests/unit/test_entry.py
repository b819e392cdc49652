"""The entry of a device: parts of brokers, and the compare-and-set step that orders them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Entry, Part

ONE = "mqtt.*.mqtt.d.sub"
TWO = "sparkcluster.mqtt.d.sub"


def part(broker: str, *consumers: int, topic: str = ONE) -> Part:
    return Part(broker, tuple(Filter(topic, f"ID:{broker}-4:{consumer}:-1:1") for consumer in consumers))


def test_the_broker_that_spoke_last_is_first() -> None:
    entry = Entry().merged("a", part("a", 1), live=True).merged("b", part("b", 1), live=True)
    assert entry.brokers == ("b", "a")
    assert entry.merged("a", part("a", 1, 2), live=True).brokers == ("a", "b")


def test_what_was_known_already_does_not_become_the_newest() -> None:
    entry = Entry().merged("a", part("a", 1, 2), live=True).merged("b", part("b", 1), live=True)
    assert entry.merged("a", part("a", 1, 2), live=True) == entry
    assert entry.merged("a", part("a", 1), live=True).brokers == ("b", "a")


def test_a_second_subscription_of_a_known_connection_does_not_make_it_the_newest() -> None:
    """A device subscribes to two things and moves on; the second one is told late."""
    first, second = (Filter("f", f"ID:a:1:-1:{number}") for number in (1, 2))
    entry = Entry().merged("a", Part("a", (first,)), live=True).merged("b", part("b", 1), live=True)
    entry = entry.merged("a", Part("a", (first, second)), live=True)
    assert entry.brokers == ("b", "a")
    entry = entry.merged("a", Part("a", (Filter("f", "ID:a:2:-1:3"),)), live=True)
    assert entry.brokers == ("a", "b")


def test_what_only_a_replay_shows_comes_last() -> None:
    entry = Entry().merged("b", part("b", 1), live=True).merged("a", part("a", 1), live=False)
    assert entry.merged("c", part("c", 1), live=False).brokers == ("b", "a", "c")


def test_a_part_that_ends_leaves_the_others() -> None:
    entry = Entry().merged("a", part("a", 1), live=True).merged("b", part("b", 1), live=True)
    assert entry.merged("b", None, live=False).brokers == ("a",)
    assert entry.merged("b", Part("b", ()), live=True).brokers == ("a",)
    assert not entry.merged("b", None, live=False).merged("a", None, live=False)
    assert entry.merged("c", None, live=False) is entry


def test_owners_are_the_brokers_whose_filters_match() -> None:
    entry = Entry().merged("a", part("a", 1, topic=ONE), True).merged("b", part("b", 1, topic=TWO), True)
    assert entry.owners("mqtt.srv.mqtt.d.sub") == ("a",)
    assert entry.owners("sparkcluster.mqtt.d.sub") == ("b",)
    assert entry.owners("mqtt.srv.mqtt.e.sub") == ()


def test_brokers_that_are_down_do_not_count() -> None:
    entry = Entry().merged("a", part("a", 1), True).merged("b", part("b", 1), True)
    assert entry.without({"b"}).brokers == ("a",)
    assert entry.without({"c"}) is entry
    assert not entry.without({"a", "b"})


def test_unknown_keys_of_a_later_version_are_passed_over() -> None:
    data = b'{"later":1,"parts":[{"broker":"a","number":3,"new":[],"filters":[{"topic":"t","consumer":"c","qos":1}]}]}'
    assert Entry.decode(data) == Entry.of(Part("a", (Filter("t", "c"),), 3))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"parts":[{"broker":"a"}]}', b"\xff"])
def test_what_is_not_an_entry_is_an_error(data: bytes) -> None:
    with pytest.raises(RegistryError, match="not an entry"):
        Entry.decode(data)


filters = st.builds(Filter, st.text(min_size=1), st.text(min_size=1), st.none() | st.text())
parts = st.builds(Part, st.text(min_size=1), st.lists(filters, min_size=1).map(tuple), st.integers())
entries = st.lists(parts, max_size=4, unique_by=lambda part: part.broker).map(lambda parts: Entry.of(*parts))


@given(entries)
def test_an_entry_survives_its_bytes(entry: Entry) -> None:
    assert Entry.decode(entry.encode()) == entry


@given(entries, parts, st.booleans())
def test_merging_twice_is_merging_once(entry: Entry, part: Part, live: bool) -> None:
    once = entry.merged(part.broker, part, live)
    assert once.merged(part.broker, part, live) == once
    assert set(once.brokers) == {*entry.brokers, part.broker}


@given(entries, parts)
def test_others_keep_their_order(entry: Entry, part: Part) -> None:
    for live in (True, False):
        merged = entry.merged(part.broker, part, live)
        others = [broker for broker in entry.brokers if broker != part.broker]
        assert [broker for broker in merged.brokers if broker != part.broker] == others
