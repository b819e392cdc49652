"""Which instance should be active: all agree, few move, and nobody acts on what it does not know."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalinka_jms.errors import RegistryError
from kalinka_jms.pub import members as module
from kalinka_jms.pub.members import Members, winner
from kalinka_jms.testing.zookeeper import FakeClient, FakeZooKeeper

ROOT = "/kalinka/devices"


class Instance:
    """One instance, up at the brokers that a test says."""

    def __init__(self, zookeeper: FakeZooKeeper, *brokers: str) -> None:
        self.client: FakeClient = zookeeper.client()
        self.links = dict.fromkeys(brokers, True)
        self.members = Members(cast(Any, self.client), ROOT, lambda: dict(self.links))

    def preferred(self, broker: str = "dev1") -> bool:
        return self.members.preferred(broker)


@pytest.fixture
def zookeeper() -> FakeZooKeeper:
    server = FakeZooKeeper()
    server.ensure(ROOT)
    return server


def look(*instances: Instance, times: int = 3) -> None:
    """As often as it takes: one look to be seen, two to believe what is seen."""
    for _ in range(times):
        for instance in instances:
            instance.members.look()


def chosen(*instances: Instance, broker: str = "dev1") -> list[Instance]:
    return [instance for instance in instances if instance.preferred(broker)]


def test_alone_it_is_always_preferred(zookeeper: FakeZooKeeper) -> None:
    alone = Instance(zookeeper, "dev1")
    assert alone.preferred()
    look(alone)
    assert alone.preferred()
    assert alone.preferred("unknown")


def test_all_agree_on_one(zookeeper: FakeZooKeeper) -> None:
    instances = [Instance(zookeeper, "dev1", "dev2") for _ in range(5)]
    look(*instances)
    for broker in ("dev1", "dev2"):
        assert len(chosen(*instances, broker=broker)) == 1


def test_a_newcomer_counts_when_two_looks_have_shown_it(zookeeper: FakeZooKeeper) -> None:
    old = Instance(zookeeper, "dev1")
    look(old)
    new = next(i for i in iter(lambda: Instance(zookeeper, "dev1"), None) if wins(i, old))
    new.members.look()
    old.members.look()
    assert old.preferred()
    old.members.look()
    assert not old.preferred()
    look(new, old)
    assert new.preferred()


def wins(one: Instance, other: Instance) -> bool:
    return winner("dev1", [one.members.instance, other.members.instance]) == one.members.instance


def pair(zookeeper: FakeZooKeeper) -> tuple[Instance, Instance]:
    """Two that know of each other: the preferred one first."""
    both = [Instance(zookeeper, "dev1") for _ in range(2)]
    look(*both)
    first, second = both if both[0].preferred() else reversed(both)
    assert not second.preferred()
    return first, second


def test_one_whose_link_is_down_is_not_preferred(zookeeper: FakeZooKeeper) -> None:
    first, second = pair(zookeeper)
    first.links["dev1"] = False
    look(first, second)
    assert second.preferred()
    first.links["dev1"] = True
    look(first, second)
    assert not second.preferred()


def test_one_whose_session_has_ended_is_not_preferred(zookeeper: FakeZooKeeper) -> None:
    first, second = pair(zookeeper)
    first.client.expire()
    look(second)
    assert second.preferred()


def test_whoever_does_not_know_stays_where_it_is(zookeeper: FakeZooKeeper) -> None:
    first, second = pair(zookeeper)
    second.client.lose()
    look(second, times=1)
    assert second.preferred(), "it believes an old look"
    second.client.reconnect()
    look(second, times=1)
    assert second.preferred(), "it believes a single look"
    look(second, first)
    assert not second.preferred()


def test_while_zookeeper_is_away_nothing_is_asked(zookeeper: FakeZooKeeper) -> None:
    """What is asked waits in the session until ZooKeeper is back: asking every 2 seconds would pile up."""
    first, _ = pair(zookeeper)
    first.client.lose()
    first.client.gather = cast(Any, pytest.fail)
    look(first)


@pytest.mark.parametrize("error", [RegistryError("no")])
def test_a_refusal_of_zookeeper_is_no_answer(zookeeper: FakeZooKeeper, error: Exception) -> None:
    _, second = pair(zookeeper)

    def refuse(*_: object, **__: object) -> None:
        raise error

    second.client.gather = cast(Any, refuse)
    second.members.look()
    assert second.preferred()


def test_were_its_thread_to_die_it_would_stay_where_it_is(
    zookeeper: FakeZooKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = pair(zookeeper)
    monkeypatch.setattr(module, "PERIOD", 0.0)
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def surprise(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    second.client.gather = cast(Any, surprise)
    second.members.start()
    second.members.join(10)
    assert len(died) == 1, "it must not end in silence"
    assert second.preferred()


def test_it_looks_until_it_is_stopped(zookeeper: FakeZooKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.001)
    both = [Instance(zookeeper, "dev1") for _ in range(2)]
    for instance in both:
        instance.members.start()
    pause = threading.Event()
    while len(chosen(*both)) != 1:
        pause.wait(0.001)
    for instance in both:
        instance.members.stop()
        instance.members.join(10)
    assert len(chosen(*both)) == 2, "what is not looked at any more is not believed"


def test_odd_names_of_brokers_have_znodes_of_their_own(zookeeper: FakeZooKeeper) -> None:
    names = ("a b", "a%20b", "a")
    instances = [Instance(zookeeper, *names) for _ in range(2)]
    look(*instances)
    for name in names:
        assert len(chosen(*instances, broker=name)) == 1


def test_brokers_are_spread_over_the_instances() -> None:
    instances = [f"instance-{number}" for number in range(4)]
    counts = Counter(winner(f"dev{number}", instances) for number in range(400))
    assert min(counts.values()) > 60, counts


@given(st.sets(st.text("abcdef0123456789", min_size=8, max_size=8), min_size=2, max_size=6), st.data())
@settings(max_examples=50)
def test_when_one_leaves_only_what_it_had_moves(instances: set[str], data: st.DataObject) -> None:
    everyone = sorted(instances)
    leaver = data.draw(st.sampled_from(everyone))
    others = [name for name in everyone if name != leaver]
    for broker in ("dev1", "dev2", "dev3"):
        before = winner(broker, everyone)
        assert winner(broker, others[::-1]) == (winner(broker, others) if before == leaver else before)
