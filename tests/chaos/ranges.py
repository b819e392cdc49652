"""A set of numbers that come almost in order, kept as ranges: its size grows with the gaps, not with the numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator


class Ranges:
    """Positive whole numbers; `add` is O(1) for the next one."""

    __slots__ = ("_highs", "_lows", "count")

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.count = 0

    def add(self, number: int) -> bool:
        """Add a number; False where it was there."""
        if self._highs and number == self._highs[-1] + 1:
            self._highs[-1] = number
        elif not self._highs or number > self._highs[-1]:
            self._lows.append(number)
            self._highs.append(number)
        elif number in self:
            return False
        else:
            self._insert(number)
        self.count += 1
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number <= self._highs[at]

    @property
    def highest(self) -> int:
        """The highest number; 0 where there is none."""
        return self._highs[-1] if self._highs else 0

    def within(self, low: int, high: int) -> int:
        """How many of the numbers are above `low` and not above `high`."""
        return sum(max(0, min(b, high) - max(a, low + 1) + 1) for a, b in zip(self._lows, self._highs, strict=True))

    def without(self, other: Ranges, low: int, high: int) -> Iterator[int]:
        """The numbers above `low`, not above `high`, that `other` does not have; ascending."""
        for a, b in zip(self._lows, self._highs, strict=True):
            number = max(a, low + 1)
            while number <= min(b, high):
                at = bisect_right(other._lows, number) - 1
                if at >= 0 and number <= other._highs[at]:
                    number = other._highs[at] + 1
                else:
                    yield number
                    number += 1

    def _insert(self, number: int) -> None:
        """A number that is missing, below the highest."""
        at = bisect_right(self._lows, number)  # the range after it
        joins_left = at > 0 and self._highs[at - 1] == number - 1
        joins_right = self._lows[at] == number + 1
        if joins_left and joins_right:
            self._highs[at - 1] = self._highs.pop(at)
            self._lows.pop(at)
        elif joins_left:
            self._highs[at - 1] = number
        elif joins_right:
            self._lows[at] = number
        else:
            self._lows.insert(at, number)
            self._highs.insert(at, number)
