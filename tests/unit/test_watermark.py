"""The watermark against a naive model: a list of positions and a set of the finished ones."""

from __future__ import annotations

import sys
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kalinka_jms.watermark import Watermark

positions = st.sets(st.integers(min_value=0, max_value=10_000), min_size=1).map(sorted)


def test_nothing_is_finished_at_first() -> None:
    watermark = Watermark(7)
    assert (watermark.position, watermark.newest, watermark.pending) == (7, 6, 0)


def test_the_start_is_the_position_until_something_is_finished() -> None:
    watermark = Watermark(7)
    watermark.extend([9])
    before = watermark.position
    watermark.finish(9)
    assert (before, watermark.position) == (7, 10)


def test_a_gap_in_the_positions_is_no_gap_in_the_prefix() -> None:
    watermark = Watermark(1)
    watermark.extend([1, 5, 9])
    watermark.finish(5)
    assert watermark.pending == 2
    watermark.finish(1)
    assert watermark.position == 6


@pytest.mark.parametrize("n", [3, 4])
def test_positions_only_grow(n: int) -> None:
    watermark = Watermark(4)
    watermark.extend([4])
    watermark.finish(4)
    with pytest.raises(ValueError, match="does not come after 4"):
        watermark.extend([n])


def test_of_a_run_that_falls_nothing_has_begun() -> None:
    watermark = Watermark(4)
    with pytest.raises(ValueError):
        watermark.extend([4, 6, 5])
    assert (watermark.newest, watermark.pending) == (3, 0)


def test_nothing_lies_before_the_start() -> None:
    watermark = Watermark(10)
    with pytest.raises(ValueError):
        watermark.extend([9])
    watermark.extend([10])


@given(positions, st.data())
def test_what_is_unknown_or_finished_cannot_be_finished(added: list[int], data: st.DataObject) -> None:
    watermark = Watermark(added[0])
    watermark.extend(added)
    unknown = data.draw(st.integers(min_value=-10, max_value=10_010).filter(lambda n: n not in added))
    with pytest.raises(KeyError):
        watermark.finish(unknown)
    watermark.finish(added[-1])
    with pytest.raises(KeyError):
        watermark.finish(added[-1])
    assert watermark.pending == len(added) - 1


@given(positions, st.randoms(use_true_random=False))
def test_any_order_of_finishing_ends_at_the_last(added: list[int], random: object) -> None:
    watermark = Watermark(added[0])
    watermark.extend(added)
    order = list(added)
    random.shuffle(order)  # type: ignore[attr-defined]
    seen = -1
    for n in order:
        watermark.finish(n)
        assert watermark.position >= seen, "the prefix never goes back"
        seen = watermark.position
    assert (watermark.position, watermark.newest, watermark.pending) == (added[-1] + 1, added[-1], 0)


def test_memory_follows_the_window_and_not_the_stream() -> None:
    watermark = Watermark(0)
    for n in range(50_000):
        watermark.extend([n])
        if n >= 100:
            watermark.finish(n - 100)
    assert watermark.pending == 100
    assert sys.getsizeof(watermark._order) + sys.getsizeof(watermark._open) < 20_000


class WatermarkMachine(RuleBasedStateMachine):
    @initialize(start=st.integers(min_value=0, max_value=5))
    def begin(self, start: int) -> None:
        self.start = start
        self.watermark = Watermark(start)
        self.added: list[int] = []
        self.finished: set[int] = set()

    @rule(gaps=st.lists(st.integers(min_value=0, max_value=4), max_size=3))
    def extend(self, gaps: list[int]) -> None:
        begun = list(accumulate(gaps, lambda n, gap: n + 1 + gap, initial=self.watermark.newest))[1:]
        self.watermark.extend(begun)
        self.added += begun

    @precondition(lambda self: len(self.finished) < len(self.added))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        n = data.draw(st.sampled_from([n for n in self.added if n not in self.finished]))
        self.watermark.finish(n)
        self.finished.add(n)

    @precondition(lambda self: len(self.finished) < len(self.added))
    @rule()
    def finish_the_oldest(self) -> None:
        n = min(n for n in self.added if n not in self.finished)
        self.watermark.finish(n)
        self.finished.add(n)

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def finish_again(self, data: st.DataObject) -> None:
        with pytest.raises(KeyError):
            self.watermark.finish(data.draw(st.sampled_from(sorted(self.finished))))

    @invariant()
    def agrees(self) -> None:
        prefix: list[int] = []
        for n in self.added:
            if n not in self.finished:
                break
            prefix.append(n)
        assert self.watermark.newest == (self.added[-1] if self.added else self.start - 1)
        assert self.watermark.position == (prefix[-1] + 1 if prefix else self.start)
        assert self.watermark.pending == len(self.added) - len(self.finished)


TestWatermarkMachine = WatermarkMachine.TestCase
