"""Finds the record that a broker does not take, when links break again and again under what is being sent.

Pure, one for each broker. What was in flight as a link broke is under suspicion. It is sent again in smaller and
smaller groups, one transaction at a time and by turns with everybody else's records, so that the next break means one
group alone. Every connection first carries a transaction without records: only what breaks a link that has just worked
counts. One record that does so by itself, often enough, is the culprit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
Runs = Sequence[tuple[T, int]]
"""Streams and how many records of each, in the order of the transaction."""

ALONE = 3
"""Links that a record has to break, alone on each, to be the culprit: that a broker dies three times within the
milliseconds after it has just answered is nothing to reckon with."""


class Turn(Enum):
    """What goes out next while somebody is under suspicion."""

    CHECK = "no record"
    SUSPECTS = "suspects"
    OTHERS = "others"


class Trial(Generic[T]):
    """Who is under suspicion, and whose turn it is."""

    __slots__ = ("_alone", "_checked", "_groups", "_sent", "_turn")

    def __init__(self) -> None:
        self._groups: list[dict[T, int]] = []  # the last one is tried next
        self._alone = 0  # links that its only record has broken
        self._checked = False  # this connection has carried a transaction without records
        self._turn = Turn.SUSPECTS
        self._sent: Turn | None = None

    @property
    def active(self) -> bool:
        """Whether somebody is under suspicion: one transaction at a time then."""
        return bool(self._groups)

    @property
    def turn(self) -> Turn:
        """What is to go out next."""
        return self._turn if self._checked else Turn.CHECK

    def share(self, stream: T) -> int:
        """How many records of the stream belong to the group that is tried now."""
        return self._groups[-1].get(stream, 0)

    def suspects(self, stream: T) -> bool:
        """Whether any of its records is under suspicion."""
        return any(stream in group for group in self._groups)

    def sent(self, turn: Turn) -> None:
        """A transaction went out, for that turn."""
        self._sent = turn

    def none(self, turn: Turn) -> None:
        """There was nothing to be sent for that turn. Suspects that are not there any more are none."""
        if turn is Turn.SUSPECTS:
            self._groups.pop()
            self._alone = 0
        self._next(turn)

    def landed(self, runs: Runs[T]) -> None:
        """The transaction went through."""
        turn, self._sent = self._sent, None
        if turn is Turn.CHECK:
            self._checked = True
        elif turn is Turn.SUSPECTS and self._groups:
            self._clear(runs)
            self._alone = 0
        self._next(turn)

    def rose(self) -> None:
        """A new connection stands: what the last one carried says nothing about it."""
        self._checked, self._sent = False, None

    def broke(self, runs: Runs[T]) -> T | None:
        """The broker ended the connection with these in flight. Returns the stream whose first record did that."""
        turn, self._sent = self._sent, None
        self._next(turn)
        count = sum(size for _, size in runs)
        if not count:
            return None
        tried = turn is Turn.SUSPECTS and self.active
        if tried:
            self._clear(runs)
        if count > 1:
            self._split(runs, count)
            return None
        alone = self._alone + 1 if tried else 0
        if alone >= ALONE:
            self._alone = 0
            return runs[0][0]
        self._groups.append(dict(runs))
        self._alone = alone
        return None

    def _next(self, turn: Turn | None) -> None:
        """By turns, also where each of them ends in a break: nobody is to wait for the others."""
        if turn is not Turn.CHECK:
            self._turn = Turn.OTHERS if turn is Turn.SUSPECTS else Turn.SUSPECTS

    def _split(self, runs: Runs[T], count: int) -> None:
        """The first half is tried first: what is behind it in the same stream comes after it."""
        first: dict[T, int] = {}
        second: dict[T, int] = {}
        room = count // 2
        for stream, size in runs:
            taken = min(size, room)
            room -= taken
            if taken:
                first[stream] = first.get(stream, 0) + taken
            if size > taken:
                second[stream] = second.get(stream, 0) + size - taken
        self._groups += [second, first]
        self._alone = 0

    def _clear(self, runs: Runs[T]) -> None:
        """These are out of the group that is tried."""
        group = self._groups[-1]
        for stream, size in runs:
            left = group.pop(stream, 0) - size
            if left > 0:
                group[stream] = left
        if not group:
            self._groups.pop()
