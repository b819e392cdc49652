"""The index of parked records against a naive model: a list of records and a set of the loaded offsets."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kalinka_jms.errors import RecordError
from kalinka_jms.sub.parked import ParkedIndex, parked_key, parse_parked_key

device_ids = st.text(st.characters(exclude_characters=".,?*>#+/", exclude_categories=["Cs"]), min_size=1)
topic_names = st.text("abcXYZ019._-", min_size=1)
record_ids = st.text(st.characters(exclude_categories=["Cs"]))


@given(device_ids, topic_names, record_ids)
def test_a_key_names_what_it_was_made_of(device: str, topic: str, id: str) -> None:
    assert parse_parked_key(parked_key(device, topic, id)) == (device, topic, id)


@pytest.mark.parametrize(("device", "topic"), [("a/b", "t"), ("a", "t/u"), ("", "t"), ("a", "")])
def test_what_would_be_ambiguous_is_refused(device: str, topic: str) -> None:
    with pytest.raises(ValueError):
        parked_key(device, topic, "id")


@pytest.mark.parametrize("key", [b"", b"dev1", b"dev1/topic", b"/topic/id", b"dev1//id", b"\xff/topic/id"])
def test_a_foreign_key_is_a_bad_record(key: bytes) -> None:
    with pytest.raises(RecordError):
        parse_parked_key(key)


@given(st.binary())
def test_any_bytes_are_a_key_or_a_bad_record(key: bytes) -> None:
    try:
        parts = parse_parked_key(key)
    except RecordError:
        return
    assert parked_key(*parts) == key


def test_replay_reads_each_once_and_in_order() -> None:
    index = ParkedIndex()
    for offset in range(5):
        index.add("dev1", "t", f"id{offset}", offset * 10, size=1)
    assert index.next("dev1", "t", 2) == [(0, "id0", 1), (10, "id1", 1)]
    index.load("dev1", "t", 10)
    assert index.next("dev1", "t", 9) == [(20, "id2", 1), (30, "id3", 1), (40, "id4", 1)]
    index.load("dev1", "t", 40)
    assert index.loaded("dev1", "t") and index.next("dev1", "t", 9) == []
    index.remove("dev1", "t", "id0")
    index.unload("dev1", "t")
    assert index.next("dev1", "t", 1) == [(10, "id1", 1)]


def test_what_is_read_at_once_is_bounded_in_bytes() -> None:
    index = ParkedIndex()
    for offset, size in enumerate((5, 5, 20, 1)):
        index.add("dev1", "t", f"id{offset}", offset, size=size)
    assert [offset for offset, _, _ in index.next("dev1", "t", 9, 10)] == [0, 1]
    index.load("dev1", "t", 1)
    assert [offset for offset, _, _ in index.next("dev1", "t", 9, 10)] == [2]  # alone, whatever its size


def test_parked_again_is_at_its_new_place_and_not_loaded() -> None:
    index = ParkedIndex()
    index.add("dev1", "t", "a", 0, size=5)
    index.add("dev1", "t", "b", 1, size=7, time=99)
    index.load("dev1", "t", 1)
    index.add("dev1", "t", "a", 2, size=6)
    assert index.backlog("dev1", "t") == [1, 2]
    assert index.next("dev1", "t", 9) == [(2, "a", 6)]
    assert (index.count, index.bytes, index.first("dev1", "t")) == (2, 13, (2, "a", 0))
    index.unload("dev1", "t")
    assert index.first("dev1", "t") == (1, "b", 99)
    assert index.first("dev1", "t", skip=1) == (2, "a", 0)
    assert index.first("dev1", "t", skip=2) is None and index.waiting("dev1", "t") == 2


def test_what_comes_after_a_load_is_not_loaded() -> None:
    index = ParkedIndex()
    index.add("dev1", "t", "a", 0, size=1)
    index.load("dev1", "t", 1_000)
    index.add("dev1", "t", "b", 1, size=1)
    assert index.next("dev1", "t", 9) == [(1, "b", 1)]


def test_reading_back_is_refused() -> None:
    index = ParkedIndex()
    index.add("dev1", "t", "a", 4, size=1)
    assert index.position == 5
    assert index.remove("dev1", "t", "a", offset=5)
    assert not index.remove("dev1", "t", "a", offset=6)
    assert index.position == 7
    with pytest.raises(ValueError, match="read on from the position"):
        index.add("dev1", "t", "a", 4, size=1)
    with pytest.raises(ValueError, match="read on from the position"):
        index.remove("dev1", "t", "a", offset=6)


def test_an_unknown_device_has_nothing() -> None:
    index = ParkedIndex()
    index.load("dev1", "t", 9)
    index.unload("dev1", "t")
    assert index.loaded("dev1", "t")
    assert not index.remove("dev1", "t", "a")
    assert (index.backlog("dev1", "t"), index.next("dev1", "t", 9), index.topics("dev1")) == ([], [], [])
    assert index.devices() == set()


def test_memory_is_of_the_records_that_are_there() -> None:
    """Deterministic, because it counts what Python allocates: 100 records a device, ids of 50 characters."""
    tracemalloc.start()
    index = ParkedIndex()
    for offset in range(20_000):
        index.add(f"dev{offset % 200}", "0.mqtt.mqtt", f"{offset:050}", offset, size=256)
    full = tracemalloc.get_traced_memory()[0]
    for offset in range(20_000):
        if offset % 100 >= 2:
            index.remove(f"dev{offset % 200}", "0.mqtt.mqtt", f"{offset:050}")
    empty = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert full / 20_000 < 250, "bytes a parked record"
    assert empty < full / 20, "a replayed backlog gives its memory back"


@dataclass
class Record:
    device: str
    topic: str
    id: str
    offset: int
    size: int
    time: int = 0
    loaded: bool = False


devices = st.sampled_from(["dev1", "dev2"])
topics = st.sampled_from(["t", "u"])
ids = st.sampled_from([f"id{n}" for n in range(6)])
gaps = st.integers(min_value=0, max_value=3)
sizes = st.integers(min_value=0, max_value=9) | st.integers(min_value=0, max_value=2**32 - 1)
times = st.integers(min_value=0, max_value=99) | st.integers(min_value=0, max_value=2**44 - 1)
bounds = st.none() | st.integers(min_value=0, max_value=30)


class ParkedMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = ParkedIndex()
        self.records: list[Record] = []
        self.position = 0

    def lane(self, device: str, topic: str) -> list[Record]:
        return [r for r in self.records if (r.device, r.topic) == (device, topic)]

    def discard(self, device: str, topic: str, id: str) -> bool:
        kept = [r for r in self.records if (r.device, r.topic, r.id) != (device, topic, id)]
        found = len(kept) < len(self.records)
        self.records = kept
        return found

    @rule(device=devices, topic=topics, id=ids, gap=gaps, size=sizes, time=times)
    def add(self, device: str, topic: str, id: str, gap: int, size: int, time: int) -> None:
        offset = self.position + gap
        self.index.add(device, topic, id, offset, size, time)
        self.discard(device, topic, id)
        self.records.append(Record(device, topic, id, offset, size, time))
        self.position = offset + 1

    @rule(device=devices, topic=topics, id=ids, gap=st.none() | gaps)
    def remove(self, device: str, topic: str, id: str, gap: int | None) -> None:
        offset = None if gap is None else self.position + gap
        assert self.index.remove(device, topic, id, offset) == self.discard(device, topic, id)
        self.position = self.position if offset is None else offset + 1

    @rule(device=devices, topic=topics, limit=st.integers(min_value=0, max_value=5), most=bounds, load=st.booleans())
    def read(self, device: str, topic: str, limit: int, most: int | None, load: bool) -> None:
        wanted: list[Record] = []
        for record in [r for r in self.lane(device, topic) if not r.loaded][:limit]:
            if most is not None and wanted and sum(r.size for r in wanted) + record.size > most:
                break
            wanted.append(record)
        assert self.index.next(device, topic, limit, most) == [(r.offset, r.id, r.size) for r in wanted]
        if load and wanted:
            self.index.load(device, topic, wanted[-1].offset)
            for record in wanted:
                record.loaded = True

    @rule(device=devices, topic=topics, offset=st.integers(min_value=-1, max_value=60))
    def load(self, device: str, topic: str, offset: int) -> None:
        self.index.load(device, topic, offset)
        for record in self.lane(device, topic):
            record.loaded = record.loaded or record.offset <= offset

    @rule(device=devices, topic=topics)
    def unload(self, device: str, topic: str) -> None:
        self.index.unload(device, topic)
        for record in self.lane(device, topic):
            record.loaded = False

    @invariant()
    def agrees(self) -> None:
        for device, topic in ((d, t) for d in ("dev1", "dev2", "dev3") for t in ("t", "u")):
            lane = self.lane(device, topic)
            assert self.index.backlog(device, topic) == [r.offset for r in lane]
            assert self.index.loaded(device, topic) == all(r.loaded for r in lane)
            assert (topic in self.index.topics(device)) == bool(lane)
            assert all(
                self.index.has(device, topic, f"id{n}") == any(r.id == f"id{n}" for r in lane) for n in range(12)
            )
            waiting = [(r.offset, r.id, r.time) for r in lane if not r.loaded]
            assert self.index.waiting(device, topic) == len(waiting)
            assert [self.index.first(device, topic, n) for n in range(len(waiting) + 1)] == [*waiting, None]
        assert self.index.devices() == {r.device for r in self.records}
        assert self.index.count == len(self.records)
        assert self.index.bytes == sum(r.size for r in self.records)
        assert self.index.position == self.position


ParkedMachine.TestCase.settings = settings(stateful_step_count=100, deadline=None)
TestParkedMachine = ParkedMachine.TestCase
