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


def test_no_client_waits_for_a_minute_for_a_node_without_power(made: list[dict[str, Any]]) -> None:
    kafka.producer(settings())
    kafka.consumer(settings(), "group")
    assert all(given["socket.timeout.ms"] <= kafka.TRANSACTION_TIMEOUT * 1000 for given in made)


def test_a_transaction_can_be_made_whatever_the_user_lets_a_request_take() -> None:
    """librdkafka refuses a producer whose requests may outlast its transaction."""
    patient = settings().model_copy(update={"kafka": {"bootstrap.servers": "127.0.0.1:1", "socket.timeout.ms": 60_000}})
    kafka.producer(patient, **kafka.transactional("t"))


def test_what_is_exact_is_owned() -> None:
    assert {*kafka._EXACT_PRODUCER, *kafka._EXACT_CONSUMER} <= OWNED.keys()
