"""What the broker is told: always a prefix of what Kafka has confirmed, on random outcomes in any order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.metrics.buckets import Buckets
from kalinka_jms.pub.window import NACK, Pending, Window
from kalinka_jms.stomp.frames import Frame

BODY = b"body"
NOW = 1_800_000_000.0


def opened(window: Window, number: int) -> Pending:
    pending = Pending(Frame(b"MESSAGE\nack:ID\\cx-%d\nsubscription:1" % number, BODY), window)
    pending.tally = Buckets()
    window.open(pending)
    return pending


def told(frames: bytes) -> list[tuple[str, int]]:
    """Command and number of every frame."""
    lines = [frame.split(b"\n") for frame in frames.split(b"\x00")[:-1]]
    return [(command.decode(), int(id.removeprefix(b"id:ID\\cx-"))) for command, id, *_ in lines]


def test_nothing_is_told_before_the_first_has_its_answer() -> None:
    window = Window("q")
    first, second = opened(window, 1), opened(window, 2)
    second(None, None)
    assert window.settle(NOW) == (b"", 0, 0)
    first(None, None)
    frames, count, size = window.settle(NOW)
    assert told(frames) == [("ACK", 2)]
    assert (count, size) == (2, len(first.frame.head) + len(second.frame.head) + 2 * len(BODY))
    assert len(window) == 0


def test_the_id_goes_back_still_escaped() -> None:
    window = Window("q")
    opened(window, 7)(None, None)
    assert window.settle(NOW)[0] == b"ACK\nid:ID\\cx-7\n\n\x00"


def test_a_refused_message_is_given_back_after_all_before_it() -> None:
    window = Window("q")
    pendings = [opened(window, number) for number in range(5)]
    pendings[2].verdict = NACK
    pendings[3].verdict = NACK
    for number in (0, 1, 4):
        pendings[number](None, None)
    assert told(window.settle(NOW)[0]) == [("ACK", 1), ("NACK", 2), ("NACK", 3), ("ACK", 4)]


def test_a_failure_is_kept_with_its_topic_and_holds_the_rest_back() -> None:
    window = Window("q")
    pending = opened(window, 1)
    error: Any = object()
    pending(error, SimpleNamespace(topic=lambda: "t"))
    assert window.failures == [(pending, error, "t")]
    assert window.settle(NOW) == (b"", 0, 0)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.sets(st.integers(0, n - 1)))))
def test_what_was_told_is_a_prefix_of_what_has_its_verdict(outcomes: tuple[list[int], set[int]]) -> None:
    order, refused = outcomes
    window = Window("q")
    pendings = [opened(window, number) for number in range(len(order))]
    done: set[int] = set()
    covered: list[int] = []  # by the broker's rules: ACK is cumulative, NACK touches its own
    for number in order:
        if number in refused:
            pendings[number].verdict = NACK
        else:
            pendings[number](None, None)
        done.add(number)
        frames, count, _ = window.settle(NOW)
        before = len(covered)
        for command, id in told(frames):
            assert id >= len(covered)
            assert command == "ACK" or id == len(covered)
            assert (id in refused) == (command == "NACK")
            assert not refused & set(range(len(covered), id)), "an ACK covered what was to be given back"
            covered += range(len(covered), id + 1)
        assert set(covered) <= done
        assert len(covered) == next((n for n in range(len(order)) if n not in done), len(order)), "more was ready"
        assert len(covered) - before == count
    assert len(window) == 0
