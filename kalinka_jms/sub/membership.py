"""Whether an instance finds its way back into Kafka's group, and a new client for one whose client does not.

After Kafka has stood still librdkafka 2.16 may wait without end for a group coordinator that it does not look for any
more: the group was empty then, and every instance believed that it took part (two of about eighty pauses of a single
Kafka, which had told its clients for a moment that the cluster has no node).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from confluent_kafka import KafkaException

from kalinka_jms.errors import ConfigError
from kalinka_jms.kafka import part_with

QUIET = 5.0
"""Seconds without partitions that are nothing out of the ordinary: nobody is asked anything."""

ASK = 2.0
"""Seconds between two questions to Kafka."""

ANSWER = 1.0
"""Seconds that Kafka has to answer one; nothing else is done meanwhile, nor would there be much."""


class Membership:
    """Used by the thread that polls."""

    def __init__(self, make: Callable[[], Any], patience: float) -> None:
        """`make` returns a new consumer. It may raise ConfigError, where a secret cannot be read just now.

        `patience`: seconds for which Kafka answers that one, after which the old one is given up. More than a rebalance
        may take.
        """
        self._make = make
        self._patience = patience
        self._client: Any = None
        self._waiting_since, self._asked_at = inf, -inf
        self._answers = 0  # one after the other: the time in which this process stood still does not count
        self.overdue = False
        """Whether it has been without partitions for longer than a rebalance takes, mostly."""

    def look(self, waiting: bool, now: float) -> Any:
        """A new consumer, where the present one has long been `waiting` for partitions though Kafka answers; or None.

        Call it all the time; `now` in seconds, monotonic.
        """
        if not waiting:
            self._forget()
            return None
        self._waiting_since = min(self._waiting_since, now)
        self.overdue = now - self._waiting_since >= QUIET
        if not self.overdue or now - self._asked_at < ASK:
            return None
        self._asked_at = now
        self._answers = self._answers + 1 if self._answered() else 0
        if (self._answers - 1) * ASK < self._patience:
            return None
        found, self._client, self._answers = self._client, None, 0
        return found

    def _answered(self) -> bool:
        try:
            self._client = self._client or self._make()
            if self._client.list_topics(timeout=ANSWER).brokers:
                return True
        except (KafkaException, ConfigError):
            pass
        self._drop()  # what it has seen of Kafka by now may be what the other one does not get over
        return False

    def _forget(self) -> None:
        self._waiting_since, self._asked_at, self._answers = inf, -inf, 0
        self.overdue = False
        self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            part_with(client)
