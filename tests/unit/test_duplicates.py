"""The same record once more: one outcome `duplicate`, within the window of its partition; an id stays what it was."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any
from unittest.mock import patch

from downlink import MQTT, Bench, record
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.sub import share as module
from kalinka_jms.sub.share import Outcome, Share, Window

SOURCE = ("kalinka.source", b"s")


def sent(offset: int, id: bytes | None = b"i", hops: int = 0, attempt: int = 1) -> Any:
    headers = [SOURCE, ("kalinka.hops", b"%d" % hops), ("kalinka.attempt", b"%d" % attempt)]
    return record(offset, "d1", b"x", headers=headers if id is None else [*headers, ("kalinka.id", id)])


def delivering() -> Bench:
    bench = Bench()
    bench.open()
    bench.up("b1")
    bench.listens("d1", "b1")
    return bench


def test_what_was_delivered_is_a_duplicate_and_an_attempt_or_a_hop_more_is_not() -> None:
    bench = delivering()
    bench.take(sent(0))
    bench.prove("b1")
    bench.take(sent(1), sent(2, hops=1), sent(3, attempt=2))
    assert bench.books.outcomes == {Outcome.DELIVERED: 1, Outcome.DUPLICATE: 1}
    assert bench.sent("b1") == [b"x", b"x"] and bench.balanced()


def test_an_id_stays_the_same_however_often_it_moves() -> None:
    """Parked, handed over from there, parked at its new place: the id of the first record, made of its place."""
    bench = Bench()
    bench.open()
    bench.take(sent(7, id=None))
    ((_, parked),) = bench.commit().writes
    bench.listens("d1", "far")
    bench.load()
    writes = [write for _, write in bench.commit().writes if write.value is not None]
    ids = [dict(write.headers)["kalinka.id"] for write in (parked, *writes)]
    assert len(ids) == 2 and set(ids) == {f"{MQTT}/0/7".encode()}


def test_a_parked_record_that_this_instance_had_delivered_is_not_sent_again() -> None:
    """Another one parked it, to whom Kafka gave the partition before our commit."""
    bench = delivering()
    bench.take(sent(0))
    bench.prove("b1")
    (old,) = bench.shares
    bench.close(old)
    bench.left("d1", "b1")
    other = bench.open()
    bench.take(sent(0))
    bench.commit()
    index = other.leave_index()
    bench.close(other)
    share = Share("0", 0, index, old.window)
    share.indexed = True
    bench.shares.append(share)
    bench.listens("d1", "b1")
    bench.load()
    assert bench.sent("b1") == [] and bench.books.replayed == {Outcome.DUPLICATE: 1}
    assert share.index.count == 0 and bench.commit().writes[0][1].value is None


@given(st.lists(st.integers(0, 12)), st.integers(1, 6))
def test_the_window_has_the_last_ones_and_less_than_twice_as_many(ids: list[int], most: int) -> None:
    window, model = Window(), OrderedDict[int, None]()
    with patch.object(module, "REMEMBERED", most):
        for id in ids:
            window.add(("d", "t", str(id), 0, 1))
            model[id] = None
            model.move_to_end(id)
            while len(model) > most:
                model.popitem(last=False)
            assert all(("d", "t", str(n), 0, 1) in window for n in model)
            assert len(window) < 2 * most or most == 1
