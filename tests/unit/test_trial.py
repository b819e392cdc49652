"""The search for the record that breaks links: exactly those that do are found, and all others pass, in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from kalinka_jms.sub.trial import ALONE, Trial, Turn


@dataclass
class Bridge:
    """Streams of records, and a broker that ends the connection whenever it gets one of the poisoned ones."""

    streams: dict[str, deque[int]]
    poison: set[tuple[str, int]]
    crashes: set[int] = field(default_factory=set)
    """Transactions at which the broker dies by itself."""
    limit: int = 10
    trial: Trial[str] = field(default_factory=Trial)
    passed: list[tuple[str, int]] = field(default_factory=list)
    culprits: list[tuple[str, int]] = field(default_factory=list)
    written: int = 0
    broken: int = 0

    def run(self) -> None:
        while any(self.streams.values()) or self.trial.active:
            turn = self.trial.turn if self.trial.active else None
            runs = self._runs(turn)
            if turn is not None and turn is not Turn.CHECK and not runs:
                self.trial.none(turn)
            else:
                self._transact(turn, runs)
            assert self.written < 10_000, "it never ends"

    def _runs(self, turn: Turn | None) -> list[tuple[str, int]]:
        runs: list[tuple[str, int]] = []
        room = self.limit
        for stream, records in self.streams.items():
            if turn is Turn.CHECK or (turn in (Turn.SUSPECTS, Turn.OTHERS) and self._passed_over(turn, stream)):
                continue
            most = self.trial.share(stream) if turn is Turn.SUSPECTS else room
            size = min(len(records), room, most)
            room -= size
            runs += [(stream, size)] if size else []
        return runs

    def _passed_over(self, turn: Turn, stream: str) -> bool:
        return not self.trial.share(stream) if turn is Turn.SUSPECTS else self.trial.suspects(stream)

    def _transact(self, turn: Turn | None, runs: list[tuple[str, int]]) -> None:
        if turn is not None:
            self.trial.sent(turn)
        self.written += 1
        records = [(stream, record) for stream, size in runs for record in list(self.streams[stream])[:size]]
        if self.written in self.crashes or self.poison.intersection(records):
            self.broken += 1
            culprit = self.trial.broke(runs)
            self.trial.rose()
            if culprit is not None:
                self.culprits.append((culprit, self.streams[culprit].popleft()))
            return
        self.trial.landed(runs)
        self.passed += records
        for stream, size in runs:
            for _ in range(size):
                self.streams[stream].popleft()


def bridge(lengths: list[int], poison: set[int], crashes: set[int] | None = None, limit: int = 10) -> Bridge:
    """Streams of these lengths; `poison` are numbers of records, counted through."""
    names = [f"s{number}" for number in range(len(lengths))]
    every = [(name, number) for name, length in zip(names, lengths, strict=True) for number in range(length)]
    streams = {name: deque(range(length)) for name, length in zip(names, lengths, strict=True)}
    return Bridge(
        streams, {every[number % len(every)] for number in poison} if every else set(), crashes or set(), limit
    )


@given(
    st.lists(st.integers(0, 30), max_size=8),
    st.sets(st.integers(0, 200), max_size=6),
    st.sets(st.integers(1, 60), max_size=ALONE - 1),
    st.integers(1, 40),
)
@settings(max_examples=500, deadline=None)
def test_exactly_the_poisoned_ones_are_found_and_all_others_pass_in_order(
    lengths: list[int], poison: set[int], crashes: set[int], limit: int
) -> None:
    """However often the broker dies by itself, short of three times in a row upon the same record."""
    found = bridge(lengths, poison, crashes, limit)
    wanted = {name: [n for n in records if (name, n) not in found.poison] for name, records in found.streams.items()}
    found.run()
    assert set(found.culprits) == found.poison and len(found.culprits) == len(found.poison)
    for name, numbers in wanted.items():
        assert [number for stream, number in found.passed if stream == name] == numbers


def test_one_among_many_costs_few_connections() -> None:
    found = bridge([4] * 200, {537}, limit=200)
    found.run()
    assert found.broken <= 8 + ALONE + 1, found.broken


def test_a_broker_that_only_ever_dies_under_others_or_without_records_condemns_nobody() -> None:
    """It does not even stand a transaction without records: nothing it does says anything about one of them."""
    trial: Trial[str] = Trial()
    assert trial.broke([("a", 1)]) is None
    for _ in range(50):
        trial.rose()
        assert trial.turn is Turn.CHECK
        trial.sent(Turn.CHECK)
        assert trial.broke([]) is None
    assert trial.active


def test_a_lone_record_is_condemned_only_by_links_that_had_just_worked() -> None:
    trial: Trial[str] = Trial()
    assert trial.broke([("a", 1)]) is None, "the first break only makes it a suspect"
    for number in range(ALONE):
        trial.rose()
        trial.sent(Turn.CHECK)
        trial.landed([])
        if trial.turn is Turn.OTHERS:
            trial.none(Turn.OTHERS)
        assert (trial.turn, trial.share("a")) == (Turn.SUSPECTS, 1)
        trial.sent(Turn.SUSPECTS)
        assert trial.broke([("a", 1)]) == ("a" if number == ALONE - 1 else None)
    assert not trial.active


def test_suspects_that_are_not_there_any_more_are_none() -> None:
    trial: Trial[str] = Trial()
    trial.broke([("a", 2), ("b", 3)])
    trial.none(Turn.SUSPECTS)
    trial.none(Turn.OTHERS)
    assert trial.active and trial.turn is Turn.CHECK
    trial.none(Turn.SUSPECTS)
    assert not trial.active and not trial.suspects("a")
