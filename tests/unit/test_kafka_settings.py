"""What the promise rests on is not the user's to change, and is what librdkafka is made with."""

from __future__ import annotations

from typing import Any

import pytest
from downlink import settings

from kalinka_jms import kafka
from kalinka_jms.config.kafka_check import OWNED


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of every client that is made."""
    found: list[dict[str, Any]] = []
    for kind in ("Producer", "Consumer"):
        monkeypatch.setattr(kafka, kind, lambda given, **_: found.append(given))
    return found


def test_a_producer_never_overtakes_itself(made: list[dict[str, Any]]) -> None:
    """A second batch that is taken after the first was refused makes the first one lost (KAFKA-15591)."""
    kafka.producer(settings())
    (given,) = made
    assert given["max.in.flight.requests.per.connection"] == 1
    assert given["enable.idempotence"] is True and given["acks"] == "all" and given["message.timeout.ms"] == 0


def test_a_rebalance_waits_for_nobody_for_minutes(made: list[dict[str, Any]]) -> None:
    kafka.consumer(settings(), "group")
    (given,) = made
    assert given["session.timeout.ms"] < given["max.poll.interval.ms"] <= 30_000


def test_what_is_exact_is_owned() -> None:
    assert {*kafka._EXACT_PRODUCER, *kafka._EXACT_CONSUMER} <= OWNED.keys()
