"""Calls that may never come back."""

from __future__ import annotations

from threading import Event

import pytest
from confluent_kafka import KafkaError, KafkaException

from kalinka_jms.sub.deadline import NoAnswer, within


def test_what_the_call_returns_or_raises_is_passed_on() -> None:
    assert within(10, divmod, 7, 2) == (3, 1)
    assert within(10, sorted, [1, 2], reverse=True) == [2, 1]
    with pytest.raises(KafkaException, match="_FAIL"):
        within(10, _fails)


def test_one_that_does_not_come_back_is_left_behind() -> None:
    forever = Event()
    with pytest.raises(NoAnswer, match="no answer") as caught:
        within(0.05, forever.wait)
    forever.set()
    assert caught.value.args[0].code() == KafkaError._TIMED_OUT and not caught.value.args[0].retriable()


def test_time_in_which_the_process_stood_still_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process that goes on finds each wait over at once; the call needs its next moment."""
    waited: list[float | None] = []

    class Future:
        def result(self, timeout: float | None) -> str:
            waited.append(timeout)
            if len(waited) == 1:
                raise TimeoutError
            return "done"

        def set_result(self, _: object) -> None: ...

    monkeypatch.setattr("kalinka_jms.sub.deadline.Future", Future)
    assert within(10, int) == "done" and waited == [0.1, 0.1]


def _fails() -> None:
    raise KafkaException(KafkaError(KafkaError._FAIL))
