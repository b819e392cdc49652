"""The ranges behave as the set of numbers that they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.ranges import Ranges

NUMBERS = st.lists(st.integers(1, 60), max_size=80)


def made(numbers: list[int]) -> Ranges:
    ranges = Ranges()
    for number in numbers:
        ranges.add(number)
    return ranges


@given(NUMBERS, st.integers(0, 61), st.integers(0, 61))
def test_like_a_set(numbers: list[int], low: int, high: int) -> None:
    ranges, model = Ranges(), set[int]()
    for number in numbers:
        assert ranges.add(number) == (number not in model)
        model.add(number)
    assert [number in ranges for number in range(62)] == [number in model for number in range(62)]
    assert (ranges.count, ranges.highest) == (len(model), max(model, default=0))
    assert ranges.within(low, high) == len([number for number in model if low < number <= high])


@given(NUMBERS, NUMBERS, st.integers(0, 61), st.integers(0, 61))
def test_difference(ours: list[int], others: list[int], low: int, high: int) -> None:
    expected = sorted(number for number in set(ours) - set(others) if low < number <= high)
    assert list(made(ours).without(made(others), low, high)) == expected


def test_it_stays_small() -> None:
    ranges = made([*range(1, 500), *range(501, 1000), 500])
    assert ranges._lows == [1]
