"""A deadline of our own for calls to librdkafka, which may wait without end, past the timeout that it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import KafkaException

SLICE = 0.1
"""Seconds waited at once: a process that stood still is not late by all the time that it did."""


class NoAnswer(KafkaException):
    """The call has not come back; whether it does anything yet is not known."""

    def __init__(self, patience: float) -> None:
        super().__init__(KafkaCode(KafkaCode._TIMED_OUT, f"librdkafka gave no answer for {patience:.0f} s"))


def within(patience: float, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the call returns, or raises; NoAnswer when it takes longer than `patience` (seconds). It goes on then, in a
    thread of its own that nobody waits for."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call(*arguments, **options))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="call", daemon=True).start()
    for _ in range(max(1, round(patience / SLICE))):
        with suppress(TimeoutError):
            return done.result(min(SLICE, patience))
    raise NoAnswer(patience)
