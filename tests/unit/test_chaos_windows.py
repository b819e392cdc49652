"""A window of darkness is closed when the broker saw the end of the connection, not before and not later."""

from __future__ import annotations

from tests.chaos.observer import Ends, device_of
from tests.chaos.verdict import Window


def window(since: float = 1.0, *, keeps: bool = False) -> Window:
    return Window("d1", "dev1", since, {}, keeps)


def ends() -> Ends:
    ends = Ends()
    ends.begun("dev1", "d1", "c1")
    ends.begun("dev1", "d1", "c2")
    return ends


def kept() -> tuple[Ends, Window, list[Window]]:
    """A session that was left behind; and the windows of those that are gone with their broker."""
    told, one, forgotten = ends(), window(keeps=True), list[Window]()
    told.forgot = lambda windows, _: forgotten.extend(windows)
    told.watch(one)
    return told, one, forgotten


def test_it_closes_with_the_last_subscription_of_that_connection() -> None:
    told, one = ends(), window()
    told.watch(one)
    told.ended("c1", 2.0)
    assert one.until is None
    told.begun("dev1", "d1", "c3")  # the device is back already
    told.ended("c2", 3.0)
    assert one.until == 3.0


def test_what_ended_before_is_closed_at_once() -> None:
    told, one = ends(), window()
    told.ended("c1", 0.5)
    told.ended("c2", 0.5)
    told.watch(one)
    assert one.until == 1.0


def test_the_end_of_another_device_closes_nothing() -> None:
    told, one = ends(), window()
    told.begun("dev1", "d2", "c9")
    told.watch(one)
    told.ended("c9", 2.0)
    assert one.until is None


def test_a_dead_broker_has_no_subscriptions() -> None:
    told, one, later = ends(), window(), window(3.0)
    told.watch(one)
    told.down("dev1", 2.0)
    told.watch(later)
    assert (one.until, later.until) == (2.0, 3.0)


def test_what_a_dead_broker_kept_for_a_session_is_gone() -> None:
    told, one, forgotten = kept()
    told.down("dev2", 2.0)
    assert forgotten == []
    told.down("dev1", 3.0)
    assert forgotten == [one]
    late = window(3.1)
    told.watch(late)  # the device noticed later than the observer
    assert forgotten == [one, late]


def test_a_broker_keeps_nothing_more_for_a_device_that_is_back_at_it() -> None:
    told, one, forgotten = kept()
    told.reached("d1", "dev2", 2.0)
    assert one.reached == 2.0
    told.reached("d1", "dev1", 5.0)
    assert one.reached == 2.0
    told.down("dev1", 6.0)
    assert forgotten == []


def test_the_first_message_on_a_new_connection_closes_it() -> None:
    told, one = ends(), window()
    told.watch(one)
    told.reached("d2", "dev2", 2.0)
    assert one.until is None
    told.reached("d1", "dev2", 3.0)
    assert one.until == 3.0


def test_where_somebody_listens_to_everything_only_that_closes_it() -> None:
    told, one = ends(), window()
    told.hiding.add("dev1")
    told.watch(one)
    told.ended("c1", 2.0)
    told.ended("c2", 2.0)
    assert one.until is None
    told.reached("d1", "dev2", 3.0)
    assert one.until == 3.0


def test_whose_subscription_it_is() -> None:
    assert device_of("mqtt.*.mqtt.d1.sub") == "d1"
    assert device_of("sparkcluster.mqtt.d1.sub") == "d1"
    assert device_of(">") == ""
