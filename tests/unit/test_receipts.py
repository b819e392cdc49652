"""What proves that a device has what was sent to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Part
from kalinka_jms.sub.receipts import Listeners, Receipts

CLEAN, PERSISTENT = Listeners(clean=frozenset(("c1",))), Listeners(persistent=frozenset(("p1",)))
DESTINATION = "mqtt.s.mqtt.d1.sub"


def test_the_listeners_are_those_whose_filters_match() -> None:
    part = Part(
        "b1",
        (
            Filter("mqtt.*.mqtt.d1.sub", "c1"),
            Filter("mqtt.t.mqtt.d1.sub", "c2"),
            Filter("mqtt.s.mqtt.d1.>", "p1", "AT_LEAST_ONCE:mqtt/s/mqtt/d1/#"),
            Filter("sparkcluster.mqtt.d1.sub", "p2", "AT_LEAST_ONCE:sparkcluster/mqtt/d1/sub"),
        ),
    )
    assert Listeners.of(part, DESTINATION) == Listeners(frozenset(("c1",)), frozenset(("p1",)))
    assert not Listeners.of(None, DESTINATION)


@pytest.mark.parametrize(
    ("listeners", "consumer", "consumed", "proven"),
    [
        (CLEAN, "c1", False, 1),
        (CLEAN, "other", True, 0),
        (PERSISTENT, "p1", False, 0),
        (PERSISTENT, "p1", True, 1),
        (PERSISTENT, "other", True, 0),
        (Listeners(frozenset(("c1",)), frozenset(("p1",))), "c1", False, 0),
        (Listeners(), "other", True, 0),
    ],
)
def test_what_each_kind_of_session_is_proven_by(
    listeners: Listeners, consumer: str, consumed: bool, proven: int
) -> None:
    receipts = Receipts(1, listeners)
    receipts.dispatched(0, consumer)
    if consumed:
        receipts.consumed(0)
    assert receipts.advance() == proven
    assert receipts.complete is bool(proven)


def test_a_failure_wins_over_everything() -> None:
    receipts = Receipts(2, PERSISTENT)
    for index in (0, 1):
        receipts.dispatched(index, "p1")
        receipts.consumed(index)
    receipts.fail(1)
    assert (receipts.advance(), receipts.failed, receipts.complete) == (1, True, False)
    assert receipts.kept == []


def test_a_session_may_hold_what_it_did_not_acknowledge() -> None:
    receipts = Receipts(4, PERSISTENT)
    receipts.dispatched(0, "p1")
    receipts.consumed(0)
    receipts.fail(2)
    receipts.advance()
    assert receipts.kept == [1, 3]
    receipts.listen(Listeners())
    assert receipts.gone and receipts.kept == [1, 3]
    assert Receipts(4, CLEAN).kept == []


@pytest.mark.parametrize(
    ("first", "then", "gone"),
    [
        (CLEAN, CLEAN, False),
        (CLEAN, Listeners(), True),
        (CLEAN, Listeners(frozenset(("c2",))), True),
        (CLEAN, Listeners(frozenset(("c1", "c2"))), False),
        (CLEAN, PERSISTENT, True),
        (PERSISTENT, Listeners(persistent=frozenset(("p2",))), False),
        (PERSISTENT, CLEAN, True),
        (PERSISTENT, Listeners(), True),
    ],
)
def test_who_can_still_prove_something(first: Listeners, then: Listeners, gone: bool) -> None:
    receipts = Receipts(1, first)
    receipts.listen(then)
    assert receipts.gone is gone
    receipts.listen(then)
    assert receipts.gone is gone, "said twice it is the same"


def test_a_connection_that_the_registry_learns_of_later() -> None:
    receipts = Receipts(1, CLEAN)
    receipts.dispatched(0, "c2")
    assert receipts.advance() == 0
    receipts.listen(Listeners(frozenset(("c2",))))
    assert receipts.advance() == 1


consumers = st.sampled_from(("c1", "c2", "p1", "p2", "other"))
listening = st.builds(
    Listeners,
    st.frozensets(st.sampled_from(("c1", "c2"))),
    st.frozensets(st.sampled_from(("p1", "p2"))),
)


@settings(deadline=None)
@given(listening, st.data())
def test_nothing_is_final_before_the_device_had_it(first: Listeners, data: st.DataObject) -> None:
    """In whatever order it is said: final is a run from the beginning and never shrinks. Each send of it was written
    to one of the device's own consumers, did not fail before, and was acknowledged where the session is persistent."""
    receipts, written, acknowledged, failed = Receipts(4, first), [set[str]() for _ in range(4)], set[int](), set[int]()
    known, kind, proven = set(first.clean | first.persistent), first, 0
    for _ in range(data.draw(st.integers(0, 30))):
        index = data.draw(st.integers(0, 3))
        match data.draw(st.sampled_from(("dispatched", "consumed", "fail", "listen"))):
            case "dispatched":
                written[index].add(consumer := data.draw(consumers))
                receipts.dispatched(index, consumer)
            case "consumed":
                acknowledged.add(index)
                receipts.consumed(index)
            case "fail":
                failed |= {index} if index >= proven else set()
                receipts.fail(index)
            case _:
                receipts.listen(now := data.draw(listening))
                known |= now.clean | now.persistent
                kind = now or kind
        more = receipts.advance()
        assert receipts.proven == proven + more
        for new in range(proven, receipts.proven):
            assert known & written[new] and new not in failed
            assert new in acknowledged or not kind.persistent
        proven = receipts.proven


@given(st.permutations([(index, word) for index in range(4) for word in ("written", "acknowledged")]), st.booleans())
def test_all_is_final_once_all_was_said(order: list[tuple[int, str]], clean: bool) -> None:
    receipts = Receipts(4, CLEAN if clean else PERSISTENT)
    for index, word in order:
        if word == "acknowledged":
            receipts.consumed(index)
        else:
            receipts.dispatched(index, "c1" if clean else "p1")
        receipts.advance()
    assert receipts.complete and not receipts.gone and not receipts.failed
