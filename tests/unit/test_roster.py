"""The roster of one broker: live advisories, replays, and what becomes of the entry when brokers tell at odds."""

from __future__ import annotations

import json

from kalinka_jms.registry.advisories import Begun, Ended, Filter
from kalinka_jms.registry.entry import Part
from kalinka_jms.registry.roster import RUNS, Change, Roster


def presence(filter: str) -> tuple[str, ...] | None:
    """Filters here: `<device>.<anything>`, `*.…` for an eavesdropper, `-` for what is none of our business."""
    device = filter.partition(".")[0]
    return None if device == "-" else () if device == "*" else (device,)


def listener(device: str, number: int, consumer: int = 1, run: str = "ID:x-4") -> Filter:
    return Filter(f"{device}.{consumer}", f"{run}:{number}:-1:{consumer}")


def settled(*filters: Filter, seen: dict[str, int] | None = None) -> Roster:
    roster = Roster("a", presence, seen)
    roster.begin()
    for filter in filters:
        roster.feed(Begun(filter))
    roster.settle()
    return roster


def test_a_subscription_is_a_live_change() -> None:
    roster, filter = settled(), listener("d", 1)
    assert roster.feed(Begun(filter)) == (Change("d", Part("a", (filter,)), live=True),)
    assert "d" in roster
    assert len(roster) == 1


def test_a_second_word_of_the_same_consumer_changes_nothing() -> None:
    filter = listener("d", 1)
    assert settled(filter).feed(Begun(filter)) == ()


def test_what_ends_is_not_live() -> None:
    one, two = listener("d", 1, 1), listener("d", 1, 2)
    roster = settled(one, two)
    assert roster.feed(Ended(one.consumer)) == (Change("d", Part("a", (two,)), live=False),)
    assert roster.feed(Ended(two.consumer)) == (Change("d", None, live=False),)
    assert roster.feed(Ended(two.consumer)) == ()
    assert len(roster) == 0


def test_a_takeover_tells_the_new_before_the_end_of_the_old() -> None:
    old, new = listener("d", 1), listener("d", 2)
    roster = settled(old)
    roster.feed(Begun(new))
    assert roster.feed(Ended(old.consumer)) == (Change("d", Part("a", (new,)), live=False),)


def test_the_first_replay_changes_nothing_before_it_is_whole() -> None:
    roster, one, two = Roster("a", presence), listener("d", 1, 1), listener("d", 1, 2)
    roster.begin()
    assert roster.feed(Begun(one)) + roster.feed(Begun(two)) == ()
    assert roster.settle() == (Change("d", Part("a", (one, two)), live=True),)


def test_a_first_replay_that_breaks_off_is_told_whole_by_the_next() -> None:
    roster, filter = Roster("a", presence), listener("d", 1)
    roster.begin()
    roster.feed(Begun(filter))
    roster.begin()
    roster.feed(Begun(filter))
    assert [change.device for change in roster.settle()] == ["d"]


def test_what_a_replay_does_not_show_is_removed_at_its_end() -> None:
    stays, goes = listener("stays", 1), listener("goes", 2)
    roster = settled(stays, goes)
    roster.begin()
    assert roster.feed(Begun(stays)) == ()
    assert roster.settle() == (Change("goes", None, live=False),)


def test_a_later_replay_counts_at_once() -> None:
    roster = settled()
    roster.begin()
    assert [change.device for change in roster.feed(Begun(listener("d", 1)))] == ["d"]
    assert roster.settle() == ()


def test_who_ends_while_a_replay_may_show_more_of_it_is_not_gone_yet() -> None:
    one, missed = listener("d", 1, 1), listener("d", 1, 2)
    roster = settled(one)
    roster.begin()
    assert roster.feed(Ended(one.consumer)) == ()
    assert roster.feed(Begun(missed)) == (Change("d", Part("a", (missed,)), live=False),)
    assert roster.settle() == (Change("d", Part("a", (missed,)), live=False),)


def test_who_ended_in_a_replay_that_broke_off_is_gone_after_the_next() -> None:
    one, other = listener("d", 1), listener("e", 2)
    roster = settled(one, other)
    roster.begin()
    assert roster.feed(Ended(one.consumer)) == ()
    roster.begin()
    roster.feed(Begun(other))
    assert roster.settle() == (Change("d", None, live=False),)


def test_only_a_younger_connection_makes_a_replay_live() -> None:
    roster = settled(listener("x", 10))
    roster.begin()
    (young,) = roster.feed(Begun(listener("young", 12)))
    (old,) = roster.feed(Begun(listener("old", 9)))
    (late,) = roster.feed(
        Begun(listener("late", 11))
    )  # a replay has no order: 12 before it must not hide that it is new
    assert (young.live, old.live, late.live) == (True, False, True)


def test_a_new_run_of_the_broker_is_young_from_its_first_connection() -> None:
    roster = settled(listener("x", 10))
    roster.begin()
    (change,) = roster.feed(Begun(listener("d", 1, run="ID:y-4")))
    assert change.live


def test_the_next_watcher_knows_what_was_seen() -> None:
    seen = settled(listener("x", 10)).seen
    roster = Roster("a", presence, json.loads(json.dumps(seen)))
    roster.begin()
    roster.feed(Begun(listener("old", 9)))
    roster.feed(Begun(listener("new", 11)))
    assert {change.device: change.live for change in roster.settle()} == {"old": False, "new": True}


def test_a_late_word_of_a_consumer_that_ended_is_a_ghost() -> None:
    filter = listener("d", 1)
    roster = settled()
    roster.begin()
    roster.feed(Ended(filter.consumer))
    assert roster.feed(Begun(filter)) == ()
    assert roster.settle() == ()
    assert "d" not in roster


def test_eavesdroppers_are_kept_apart() -> None:
    roster, all_of_them = settled(), Filter("*.>", "ID:x-4:7:-1:1")
    assert roster.feed(Begun(all_of_them)) == ()
    assert roster.eavesdroppers == (all_of_them,)
    roster.feed(Ended(all_of_them.consumer))
    assert not list(roster.eavesdroppers)


def test_other_topics_leave_no_trace() -> None:
    roster = settled()
    assert roster.feed(Begun(Filter("-.other", "ID:x-4:7:-1:1"))) == ()
    assert (roster.eavesdroppers, len(roster), roster.seen) == ((), 0, {})


def test_a_filter_that_names_two_devices_counts_for_both() -> None:
    roster = Roster("a", lambda filter: ("d", "e"))
    roster.begin()
    roster.feed(Begun(Filter("f", "ID:x-4:1:-1:1")))
    assert [change.device for change in roster.settle()] == ["d", "e"]
    assert [change.device for change in roster.feed(Ended("ID:x-4:1:-1:1"))] == ["d", "e"]


def test_runs_that_are_remembered_are_bounded() -> None:
    roster = settled()
    for run in range(RUNS + 10):
        roster.feed(Begun(listener("d", 1, run=f"ID:{run}")))
        roster.feed(Begun(listener("d", 2, run="ID:often")))
    assert len(roster.seen) == RUNS
    assert roster.seen["ID:often"] == 2
