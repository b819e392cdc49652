"""What waits, and what is dead, counted."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.ops.letters import Letter
from kalinka_jms.ops.tally import Buried, Waiting, dead, parked
from kalinka_jms.sub.parked import drop_key, parked_key


@dataclass
class Record:
    """As much of Kafka's record as is looked at."""

    k: bytes | None
    v: bytes | None
    at: float = 1.0
    part: int = 0
    h: tuple[tuple[str, bytes], ...] = ()

    def key(self) -> bytes | None:
        return self.k

    def value(self) -> bytes | None:
        return self.v

    def topic(self) -> str:
        return "0.parked"

    def partition(self) -> int:
        return self.part

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self.at * 1000)

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.h


def key(device: str, id: str) -> bytes:
    return parked_key(device, "0.mqtt.mqtt,srv", id)


def test_what_waits_is_counted_by_device() -> None:
    records = [Record(key("b", "1"), b"xy", 5), Record(key("a", "1"), b"x", 3), Record(key("b", "2"), b"", 4)]
    assert parked(records) == [
        Waiting("b", 2, 2 * len(key("b", "1")) + 2, 4.0, [("0.parked", 0)]),
        Waiting("a", 1, len(key("a", "1")) + 1, 3.0, [("0.parked", 0)]),
    ]


def test_a_tombstone_takes_its_own_partitions_record_only() -> None:
    records = [Record(key("a", "1"), b"x"), Record(key("a", "1"), b"x", part=1), Record(key("a", "1"), None)]
    assert [one.count for one in parked(records)] == [1]


def test_what_somebody_asked_to_drop_does_not_wait() -> None:
    records = [
        Record(key("a", "1"), b"x"),
        Record(key("ab", "1"), b"x"),
        Record(key("a", "2"), b"x", part=1),
        Record(drop_key("a"), b"drop"),
        Record(drop_key("a"), None),
        Record(key("a", "3"), b"x"),
    ]
    assert [(one.device, one.count, sorted(one.places)) for one in parked(records)] == [
        ("a", 2, [("0.parked", 0), ("0.parked", 1)]),
        ("ab", 1, [("0.parked", 0)]),
    ]


def test_what_is_no_parked_record_is_passed_over() -> None:
    assert parked([Record(b"strange", b"x"), Record(None, b"x"), Record(b"\xff/a/b", b"x")]) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans())))
def test_what_is_left_is_what_was_parked_last_and_not_taken_back(steps: list[tuple[str, int, bool]]) -> None:
    left: dict[tuple[str, int], None] = {}
    for device, id, comes in steps:
        left[device, id] = None
        if not comes:
            del left[device, id]
    records = [Record(key(device, str(id)), b"x" if comes else None) for device, id, comes in steps]
    assert {one.device: one.count for one in parked(records)} == {
        device: sum(other == device for other, _ in left) for device in {device for device, _ in left}
    }


def test_what_is_dead_is_counted_by_reason() -> None:
    def letter(at: float, reason: str, who: str) -> Letter:
        return Letter((0, int(at)), at, reason, f"t/0/{at:.0f}", 1, f"id{at:.0f}", who, "")

    found = [letter(2, "null value", "a"), letter(1, "null value", "a"), letter(3, "denied", "b")]
    found += [letter(at, "null value", f"c{at}") for at in (4, 5, 6)]
    assert dead(found) == [
        Buried("null value", 5, 1.0, 6.0, "id6", "t/0/6", ["a", "c4", "c5"]),
        Buried("denied", 1, 3.0, 3.0, "id3", "t/0/3", ["b"]),
    ]
