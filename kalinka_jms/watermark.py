"""The contiguous finished prefix of a stream whose parts finish in any order.

Behind it is the offset that may be committed to Kafka: that covers everything before it, so a gap committed is a record
lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from operator import lt


class Watermark:
    """Which positions of one stream are open, and up to where all of them are finished.

    Positions are integers that only grow; gaps are allowed (compacted records and transaction markers leave them in
    Kafka's offsets). Every call is O(1) amortised; memory is held for the window only: from the oldest open position
    to the newest added one.
    """

    __slots__ = ("_last", "_newest", "_open", "_order")

    def __init__(self, start: int) -> None:
        """`start` is the position to report before anything is finished: where reading began."""
        self._last = self._newest = start - 1
        self._order: deque[int] = deque()  # added and not yet passed by the prefix, oldest first
        self._open: set[int] = set()  # the unfinished ones among them

    def extend(self, numbers: Sequence[int]) -> None:
        """Begin all these positions. Raises ValueError, and has begun none of them, unless each is beyond all before it
        and none is before `start`."""
        if numbers and numbers[0] <= self._newest:
            raise ValueError(f"position {numbers[0]} does not come after {self._newest}")
        if not all(map(lt, numbers, islice(numbers, 1, None))):
            raise ValueError("positions that do not grow")
        self._newest = numbers[-1] if numbers else self._newest
        self._order.extend(numbers)
        self._open.update(numbers)

    def finish(self, *numbers: int) -> None:
        """End these positions, in any order. Raises KeyError when one was never added or is finished already."""
        for n in numbers:
            self._open.remove(n)
        order = self._order
        while order and order[0] not in self._open:
            self._last = order.popleft()

    @property
    def position(self) -> int:
        """The offset to commit: one past the finished prefix; `start` while there is none."""
        return self._last + 1

    @property
    def newest(self) -> int:
        """The last position that was begun; the one before `start` while there is none."""
        return self._newest

    @property
    def pending(self) -> int:
        """How many positions are unfinished."""
        return len(self._open)
