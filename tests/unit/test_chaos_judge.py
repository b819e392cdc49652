"""The judge finds what was planted: losses, duplicates, what is out of order, strays; and excuses only what it may."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.judge import Judge, Leg
from tests.chaos.message import BACK_END, KAFKA, Stream, decode, encode
from tests.chaos.verdict import Count

UP = Stream("d1", BACK_END, "dev1")
DOWN = Stream(BACK_END, "d1", KAFKA)
ACROSS = Stream("d1", "d2", "dev1")


def told(judge: Judge, leg: Leg) -> Count:
    return judge.count(leg, judge.mark())


def sent(judge: Judge, stream: Stream, count: int, leg: Leg, at: float = 0.0) -> None:
    for _ in range(count):
        judge.promise(leg, stream, judge.send(stream, at))


def arrive(judge: Judge, leg: Leg, stream: Stream, *numbers: int, at: float = 0.0) -> None:
    receiver = KAFKA if leg == "up" else stream.destination
    for number in numbers:
        judge.arrive(leg, stream, number, receiver, at)


def test_all_arrived_in_order() -> None:
    judge = Judge()
    sent(judge, UP, 3, "up")
    arrive(judge, "up", UP, 1, 2, 3)
    assert told(judge, "up") == Count(promised=3)
    assert told(judge, "up").exact
    assert not told(judge, "down").exact  # nothing was promised there: that proves nothing


def test_a_loss_is_named() -> None:
    judge = Judge()
    sent(judge, UP, 3, "up")
    arrive(judge, "up", UP, 1, 3)
    count = told(judge, "up")
    assert (count.lost, count.named) == (1, ("d1 → sparkcluster by dev1 #2",))
    assert judge.missing(judge.mark()) == 1


def test_what_was_not_promised_may_be_missing() -> None:
    judge = Judge()
    sent(judge, UP, 2, "up")
    judge.send(UP, 0.0)  # no PUBACK came
    arrive(judge, "up", UP, 1, 2)
    assert told(judge, "up") == Count(promised=2)


def test_a_duplicate_is_counted_and_is_not_out_of_order() -> None:
    judge = Judge()
    sent(judge, UP, 3, "up")
    arrive(judge, "up", UP, 1, 2, 1, 2, 3)
    assert told(judge, "up") == Count(promised=3, duplicates=2)


def test_what_a_device_left_without_a_puback_comes_again_and_is_no_duplicate_of_the_bridge() -> None:
    judge = Judge()
    sent(judge, DOWN, 2, "down")
    judge.arrive("down", DOWN, 1, "d1", 0.0, again=True)  # the first of it that was read
    judge.arrive("down", DOWN, 2, "d1", 0.0)
    judge.arrive("down", DOWN, 2, "d1", 0.0, again=True)
    assert told(judge, "down") == Count(promised=2)
    judge.arrive("down", DOWN, 2, "d1", 0.0)
    assert told(judge, "down").duplicates == 1


def test_out_of_order() -> None:
    judge = Judge()
    sent(judge, DOWN, 4, "down")
    arrive(judge, "down", DOWN, 1, 3, 4, 2)
    assert told(judge, "down") == Count(promised=4, reordered=1, late=("sparkcluster → d1 by kafka #2",))
    assert not told(judge, "down").exact


def test_what_waited_in_a_session_that_was_left_behind_may_come_after_what_came_elsewhere() -> None:
    judge = Judge()
    for at in (1.0, 2.0, 3.0, 9.0, 9.1, 9.2):
        sent(judge, DOWN, 1, "down", at=at)

    def come(*arrivals: tuple[int, str]) -> None:
        for number, broker in arrivals:
            judge.arrive("down", DOWN, number, "d1", 0.0, broker)

    come((1, "dev1"))
    window = judge.broke("d1", at=2.5, keeps=True, broker="dev1")
    window.close(2.6)
    come((3, "dev2"), (5, "dev2"), (2, "dev1"))
    assert told(judge, "down").reordered == 0
    window.reached = 3.5
    come((6, "dev2"), (4, "dev1"))  # the bridge knew when it was sent
    assert told(judge, "down").late == ("sparkcluster → d1 by kafka #4",)


def test_what_came_late_from_where_no_session_was_left_is_out_of_order() -> None:
    judge = Judge()
    sent(judge, DOWN, 3, "down", at=1.0)
    judge.broke("d1", at=0.5, keeps=True, broker="dev1")
    for number, broker in ((1, "dev1"), (3, "dev2"), (2, "dev3")):
        judge.arrive("down", DOWN, number, "d1", 0.0, broker)
    assert told(judge, "down").reordered == 1


def test_what_was_never_promised_has_no_place_in_the_order() -> None:
    judge = Judge()
    judge.send(UP, 0.0)
    judge.promise("up", UP, judge.send(UP, 0.0))
    arrive(judge, "up", UP, 2, 1)
    assert told(judge, "up") == Count(promised=1)


def test_a_message_between_devices_is_judged_on_both_legs() -> None:
    judge = Judge()
    sent(judge, ACROSS, 3, "up")
    arrive(judge, "up", ACROSS, 1, 3, 2)
    for number in (1, 3, 2):
        judge.promise("down", ACROSS, number)
    arrive(judge, "down", ACROSS, 1, 3)
    assert told(judge, "up") == Count(promised=3, reordered=1, late=("d1 → d2 by dev1 #2",))
    assert told(judge, "down").lost == 1
    arrive(judge, "down", ACROSS, 2)
    assert told(judge, "down") == Count(promised=3)  # the order of Kafka is the order that counts there


def test_an_arrival_before_its_acknowledgement() -> None:
    judge = Judge()
    number = judge.send(UP, 0.0)
    arrive(judge, "up", UP, number)
    judge.promise("up", UP, number)
    assert told(judge, "up") == Count(promised=1)


def test_strays() -> None:
    judge = Judge()
    sent(judge, DOWN, 1, "down")
    judge.arrive("down", DOWN, 1, "d2", 0.0)
    judge.arrive("down", DOWN, 7, "d1", 0.0)
    assert judge.strays() == (
        "sparkcluster → d1 by kafka #1 arrived at d2",
        "sparkcluster → d1 by kafka #7 arrived at d1",
    )
    assert told(judge, "down").lost == 1


def test_what_was_judged_is_not_judged_again() -> None:
    judge = Judge()
    sent(judge, UP, 2, "up")
    arrive(judge, "up", UP, 1, 1)
    assert told(judge, "up").lost == 1
    judge.close(judge.mark())
    assert told(judge, "up") == Count()
    sent(judge, UP, 1, "up")
    arrive(judge, "up", UP, 3)
    assert told(judge, "up") == Count(promised=1)


def test_a_broken_connection_excuses_only_what_was_open_when_it_broke() -> None:
    """1-4 came before, 5 was lost while the connection was whole, 6 came, 7 and 8 are in the window, 9 after it."""
    judge = Judge()
    for number in range(1, 10):
        sent(judge, DOWN, 1, "down", at=float(number))
    arrive(judge, "down", DOWN, 1, 2, 3, 4, 6)
    window = judge.broke("d1", at=7.0)
    window.until = 8.0
    count = told(judge, "down")
    assert (count.lost, count.dark) == (2, 2)
    assert count.named == ("sparkcluster → d1 by kafka #5", "sparkcluster → d1 by kafka #9")
    assert count.darkened == ("sparkcluster → d1 by kafka #7", "sparkcluster → d1 by kafka #8")


def test_what_a_session_got_while_nobody_knew_better_is_gone_with_its_broker() -> None:
    """1 came before the device left, 2 and 3 wait in its session (3: the bridge did not know), 4 came, 5 is late."""
    judge = Judge()
    sent(judge, DOWN, 1, "down", at=1.0)
    arrive(judge, "down", DOWN, 1)
    window = judge.broke("d1", at=2.0, keeps=True, broker="dev1")
    window.close(3.0)
    window.reached = 3.5
    for at in (2.5, 4.5, 4.6, 5.5):
        sent(judge, DOWN, 1, "down", at=at)
    arrive(judge, "down", DOWN, 4)
    assert told(judge, "down").lost == 3  # it must come when the device is back
    judge.forgot([window], 9.0)
    count = told(judge, "down")
    assert (count.dark, count.named) == (2, ("sparkcluster → d1 by kafka #5",))


def test_nothing_that_was_sent_after_a_brokers_death_is_excused_by_it() -> None:
    judge = Judge()
    sent(judge, DOWN, 1, "down", at=1.0)
    arrive(judge, "down", DOWN, 1)
    window = judge.broke("d1", at=10.0, keeps=True, broker="dev1")
    window.close(10.1)
    judge.forgot([window], 10.1)
    sent(judge, DOWN, 1, "down", at=10.5)
    assert told(judge, "down").lost == 1


def test_a_window_goes_on_for_what_is_not_judged_yet() -> None:
    judge = Judge()
    sent(judge, DOWN, 1, "down", at=1.0)
    arrive(judge, "down", DOWN, 1)
    mark = judge.mark()
    window = judge.broke("d1", at=2.0)
    sent(judge, DOWN, 1, "down", at=2.5)
    window.close(3.0)
    judge.close(mark)
    assert told(judge, "down").dark == 1
    sent(judge, DOWN, 1, "down", at=9.0)
    arrive(judge, "down", DOWN, 3)
    judge.close(judge.mark())
    sent(judge, DOWN, 1, "down", at=2.9)
    assert told(judge, "down").lost == 1


def test_a_broken_connection_excuses_no_other_device() -> None:
    judge = Judge()
    sent(judge, DOWN, 1, "down")
    judge.broke("d2", at=0.0)
    assert told(judge, "down").lost == 1


def test_recovery_counts_from_the_first_message_that_was_sent_after_the_blow() -> None:
    judge = Judge()
    sent(judge, UP, 3, "up")
    arrive(judge, "up", UP, 1, at=99.9)
    judge.blow(at=100.0)
    arrive(judge, "up", UP, 2, 3, at=101.0)  # were under way
    assert judge.progress() == {}
    sent(judge, UP, 1, "up")
    arrive(judge, "up", UP, 4, at=103.5)
    assert judge.progress() == {("up", "dev1", BACK_END): 3.5}


def test_a_group_that_was_silent_goes_on_with_its_backlog() -> None:
    judge = Judge()
    sent(judge, UP, 2, "up")
    arrive(judge, "up", UP, 1, at=90.0)
    judge.blow(at=100.0)
    arrive(judge, "up", UP, 2, at=101.0)
    assert judge.progress() == {("up", "dev1", BACK_END): 1.0}


def test_a_device_that_moved_goes_on_with_what_it_gets_there() -> None:
    judge = Judge()
    sent(judge, DOWN, 1, "down")
    arrive(judge, "down", DOWN, 1, at=99.9)
    judge.blow(at=100.0)
    sent(judge, DOWN, 1, "down")
    arrive(judge, "down", DOWN, 2, at=101.0)  # where it was before
    judge.afresh(["d1"])
    assert judge.progress() == {}
    sent(judge, DOWN, 1, "down")
    arrive(judge, "down", DOWN, 3, at=104.0)
    assert judge.progress() == {("down", "d1"): 4.0}


def test_silence_is_the_longest_gap_between_arrivals() -> None:
    judge = Judge()
    sent(judge, UP, 4, "up")
    for number, at in ((1, 1.0), (2, 2.0), (3, 6.0), (4, 7.0)):
        arrive(judge, "up", UP, number, at=at)
    assert judge.silences() == {("up", "dev1", BACK_END): 4.0}


@given(st.integers(0, 10_000), st.integers(1, 80))
def test_any_planted_fault_is_found(seed: int, size: int) -> None:
    chance = random.Random(seed)
    judge = Judge()
    sent(judge, DOWN, size, "down")
    lost = {number for number in range(1, size + 1) if chance.random() < 0.2}
    order = [number for number in range(1, size + 1) if number not in lost]
    if swapped := len(order) > 1 and chance.random() < 0.5:
        at = chance.randrange(len(order) - 1)
        order[at], order[at + 1] = order[at + 1], order[at]
    doubles = [number for number in order if chance.random() < 0.2]
    arrive(judge, "down", DOWN, *order, *doubles)
    count = told(judge, "down")
    assert (count.promised, count.lost, count.duplicates) == (size, len(lost), len(doubles))
    assert count.reordered == int(swapped)


def test_payload() -> None:
    body = encode("run", UP, 17, 200)
    assert len(body) == 200
    assert decode("run", body) == (UP, 17)
    assert decode("other", body) is None
    assert decode("run", b"anything") is None
