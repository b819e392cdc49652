"""What was taken from each Kafka topic and what became of it, counted by the thread that owns the shares.

`taken` = the sum of all outcomes + what open shares hold + `given_back`, between any two steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from time import time
from typing import Any

from kalinka_jms.metrics.buckets import BOUNDS, Buckets
from kalinka_jms.sub.share import Outcome, Share


class Account:
    """Of one topic. Here are counters only; what is in flight is what the shares hold."""

    __slots__ = ("ages", "given_back", "taken")

    def __init__(self) -> None:
        self.taken = self.given_back = 0
        self.ages: defaultdict[Outcome, Buckets] = defaultdict(Buckets)
        """The seconds from a record's timestamp to its outcome; as many as have that outcome."""


class Accounts:
    """Of all topics."""

    def __init__(self) -> None:
        self.topics: defaultdict[str, Account] = defaultdict(Account)

    def take(self, share: Share, topic: str, count: int) -> None:
        """Records came."""
        self.topics[topic].taken += count
        share.held[topic] += count

    def end(self, share: Share, messages: Sequence[Any], outcome: Outcome) -> None:
        """Records of one topic have their outcome."""
        topic, now = messages[0].topic(), time()
        share.held[topic] -= len(messages)
        ages = self.topics[topic].ages[outcome]
        for message in messages:
            stamp = message.timestamp()[1]
            age = max(now - stamp / 1000, 0.0) if stamp > 0 else 0.0
            ages.total += age  # as `add`, without the call
            ages.counts[bisect_left(BOUNDS, age)] += 1

    def give_back(self, share: Share) -> None:
        """The share ended: what it holds gets no outcome here."""
        for topic, records in share.held.items():
            self.topics[topic].given_back += records
        share.held.clear()

    @property
    def taken(self) -> int:
        """Records taken from Kafka."""
        return sum(account.taken for account in self.topics.values())

    @property
    def given_back(self) -> int:
        """Records that had no outcome when their partition was taken away: whoever has it takes them again."""
        return sum(account.given_back for account in self.topics.values())

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Records by outcome."""
        found: Counter[Outcome] = Counter()
        for account in self.topics.values():
            for outcome, ages in account.ages.items():
                found[outcome] += sum(ages.counts)
        return found
