"""A client that finds no way back into the group is replaced, and no other one is."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kalinka_jms.errors import ConfigError
from kalinka_jms.sub.membership import ASK, QUIET, Membership

PATIENCE = 25.0


class Client:
    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self.closed = Event()

    def list_topics(self, *, timeout: float) -> Any:
        assert timeout < 5  # the thread that polls waits for it
        if self._kafka.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(brokers={1: "a node"} if self._kafka.nodes else {})

    def close(self) -> None:
        self.closed.set()


class Kafka:
    """Answers, or not; `clients` are those that were made."""

    def __init__(self) -> None:
        self.away, self.nodes, self.secret = False, True, True
        self.clients: list[Client] = []

    def client(self) -> Client:
        if not self.secret:
            raise ConfigError("[kafka]", ())
        self.clients.append(Client(self))
        return self.clients[-1]


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def membership(kafka: Kafka) -> Membership:
    return Membership(kafka.client, PATIENCE)


def wait(membership: Membership, start: float, seconds: float) -> tuple[float, Any]:
    """Look four times a second; when something was found, and what."""
    now = start
    while now < start + seconds:
        if (found := membership.look(True, now)) is not None:
            return now - start, found
        now += 0.25
    return now - start, None


def test_kafka_answers_and_the_group_says_nothing(membership: Membership, kafka: Kafka) -> None:
    after, found = wait(membership, 1000.0, 120)
    assert QUIET + PATIENCE <= after <= QUIET + PATIENCE + 2 * ASK
    assert [found] == kafka.clients and not found.closed.is_set()
    assert membership.overdue, "it is still without partitions"


def test_time_in_which_the_process_stood_still_is_no_answer(membership: Membership, kafka: Kafka) -> None:
    wait(membership, 0.0, QUIET + 1)
    assert membership.look(True, 600.0) is None and len(kafka.clients) == 1


def test_the_next_one_gets_the_same_time(membership: Membership, kafka: Kafka) -> None:
    after, first = wait(membership, 0.0, 120)
    after, second = wait(membership, after, 120)
    assert PATIENCE <= after <= PATIENCE + 2 * ASK and second is not first


def test_a_rebalance_is_nothing_out_of_the_ordinary(membership: Membership, kafka: Kafka) -> None:
    assert wait(membership, 0.0, QUIET - 0.5) == (QUIET - 0.5, None)
    assert kafka.clients == [] and not membership.overdue


def test_a_long_one_asks_and_lets_go(membership: Membership, kafka: Kafka) -> None:
    wait(membership, 0.0, 20)
    assert membership.overdue and len(kafka.clients) == 1
    assert membership.look(False, 20.0) is None and not membership.overdue
    assert kafka.clients[0].closed.wait(10)
    assert wait(membership, 21.0, QUIET + PATIENCE - 1)[1] is None  # all begins anew


@pytest.mark.parametrize("way", ["away", "nodes", "secret"])
def test_it_counts_from_when_kafka_answers(membership: Membership, kafka: Kafka, way: str) -> None:
    """A client that has met it without a node is not the one to go on with."""
    setattr(kafka, way, way == "away")
    assert wait(membership, 0.0, 600)[1] is None
    early = list(kafka.clients)
    setattr(kafka, way, way != "away")
    after, found = wait(membership, 600.0, 60)
    assert PATIENCE <= after <= PATIENCE + 2 * ASK and found not in early
    assert all(client.closed.wait(10) for client in early)
