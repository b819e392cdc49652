"""The lane against a naive model: a list of what waits, a list of what is in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kalinka_jms.sub.lane import Lane


def filled(*items: int) -> Lane[int]:
    lane: Lane[int] = Lane()
    for item in items:
        lane.push(item, now=0.0)
    return lane


def one(_: int) -> int:
    return 1


def itself(item: int) -> int:
    return item


def test_a_new_lane_is_idle_and_true() -> None:
    lane: Lane[int] = Lane()
    assert lane.idle and len(lane) == 0 and lane.waiting_since is None
    assert lane, "`if lane:` must not drop an empty one"
    assert lane.take(10, 10, one) == lane.drain() == []
    assert lane.settle((), now=1.0) == ([], [])


def test_one_batch_in_flight_at_a_time() -> None:
    lane = filled(1, 2, 3)
    assert lane.take(2, 100, one) == [1, 2]
    assert lane.take(2, 100, one) == []
    assert (lane.in_flight, len(lane), lane.idle) == (2, 3, False)
    assert lane.settle((), now=1.0) == ([1, 2], [])
    assert lane.take(2, 100, one) == [3]


def test_a_held_lane_hands_out_nothing() -> None:
    lane = filled(1)
    lane.held = True
    assert lane.take(1, 100, one) == []
    lane.held = False
    assert lane.take(1, 100, one) == [1]


def test_back_to_the_first_undelivered() -> None:
    lane = filled(1, 2, 3, 4)
    lane.take(3, 100, one)
    assert lane.settle({1}, now=1.0) == ([1], [2, 3])
    assert lane.take(9, 100, one) == [2, 3, 4]


@pytest.mark.parametrize(("limit", "max_bytes", "expected"), [(9, 10, [8]), (9, 12, [8, 4]), (1, 99, [8]), (9, 0, [8])])
def test_bounds_in_items_and_bytes(limit: int, max_bytes: int, expected: list[int]) -> None:
    assert filled(8, 4, 1).take(limit, max_bytes, itself) == expected


def test_no_room_for_items_takes_none() -> None:
    assert filled(8).take(0, 99, itself) == []


def test_drain_leaves_what_is_in_flight() -> None:
    lane = filled(1, 2, 3)
    lane.take(1, 100, one)
    assert lane.drain() == [2, 3]
    assert len(lane) == 1
    assert lane.settle({0}, now=1.0) == ([], [1])
    assert lane.drain() == [1]
    assert lane.idle


def test_the_head_waits_since_it_became_the_head() -> None:
    lane: Lane[int] = Lane()
    lane.push(1, now=1.0)
    lane.push(2, now=2.0)
    assert lane.waiting_since == 1.0
    lane.take(2, 100, one)
    assert lane.waiting_since is None, "in flight: proof or loss comes first"
    lane.settle({0}, now=5.0)
    assert lane.waiting_since == 1.0, "an attempt without delivery does not start the time anew"
    lane.take(2, 100, one)
    lane.give_back()
    assert lane.waiting_since == 1.0
    lane.take(2, 100, one)
    lane.settle({1}, now=6.0)
    assert lane.waiting_since == 6.0
    lane.drain()
    assert lane.waiting_since is None
    lane.push(3, now=7.0)
    assert lane.waiting_since == 7.0


@given(st.lists(st.integers(), max_size=20), st.integers(min_value=1, max_value=20), st.data())
def test_first_deliveries_are_in_order_whatever_fails(items: list[int], limit: int, data: st.DataObject) -> None:
    lane: Lane[tuple[int, int]] = Lane()
    for place, item in enumerate(items):
        lane.push((place, item), now=0.0)
    final: list[tuple[int, int]] = []
    for _ in range(5):
        taken = lane.take(limit, 1_000_000, lambda _: 1)
        if data.draw(st.booleans()):
            assert lane.give_back() == len(taken)
            continue
        undelivered = data.draw(st.sets(st.integers(min_value=0, max_value=limit)))
        delivered, returned = lane.settle(undelivered, now=0.0)
        assert delivered + returned == taken
        final += delivered
    assert final + lane.drain() == list(enumerate(items))


class LaneMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lane: Lane[int] = Lane()
        self.queue: list[int] = []
        self.flying: list[int] = []
        self.since: float | None = None
        self.now = 0.0
        self.pushed = 0

    @rule(passed=st.floats(min_value=0, max_value=5))
    def pass_time(self, passed: float) -> None:
        self.now += passed

    @rule(count=st.integers(min_value=1, max_value=5))
    def push(self, count: int) -> None:
        if not self.queue and not self.flying:
            self.since = self.now
        for _ in range(count):
            self.pushed += 1
            self.lane.push(self.pushed, self.now)
            self.queue.append(self.pushed)

    @rule(limit=st.integers(min_value=0, max_value=4), max_bytes=st.sampled_from(range(0, 45, 5)))
    def take(self, limit: int, max_bytes: int) -> None:
        expected: list[int] = []
        if not self.flying and not self.lane.held:
            for item in self.queue[:limit]:
                if expected and sum(map(self.size, [*expected, item])) > max_bytes:
                    break
                expected.append(item)
        assert self.lane.take(limit, max_bytes, self.size) == expected
        if expected:
            self.flying, self.queue = expected, self.queue[len(expected) :]

    @rule(undelivered=st.sets(st.integers(min_value=0, max_value=4), max_size=2))
    def settle(self, undelivered: set[int]) -> None:
        good = 0
        while good < len(self.flying) and good not in undelivered:
            good += 1
        assert self.lane.settle(undelivered, self.now) == (self.flying[:good], self.flying[good:])
        self.queue = self.flying[good:] + self.queue
        self.flying = []
        if good:
            self.since = self.now if self.queue else None

    @rule()
    def give_back(self) -> None:
        assert self.lane.give_back() == len(self.flying)
        self.queue, self.flying = self.flying + self.queue, []

    @rule()
    def drain(self) -> None:
        assert self.lane.drain() == self.queue
        self.queue = []
        if not self.flying:
            self.since = None

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.lane.held = held

    @invariant()
    def agrees(self) -> None:
        assert len(self.lane) == len(self.queue) + len(self.flying)
        assert self.lane.in_flight == len(self.flying)
        assert self.lane.head == next(iter(self.flying + self.queue), None)
        assert self.lane.idle == (not self.queue and not self.flying)
        assert self.lane.waiting_since == (None if self.flying else self.since)

    @staticmethod
    def size(item: int) -> int:
        return item % 7 * 5


TestLaneMachine = LaneMachine.TestCase
