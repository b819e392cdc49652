"""A consumer group of the fake Kafka: members, the assignor `range`, generations, committed offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

if TYPE_CHECKING:
    from kalinka_jms.testing.consumer import FakeConsumer
    from kalinka_jms.testing.kafka import FakeKafka

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What `consumer_group_metadata` returns: a member as of one generation."""

    group: Group
    member: FakeConsumer
    generation: int

    @property
    def current(self) -> bool:
        """Whether the group still knows it so."""
        return self.member in self.group.members and self.generation == self.group.generation


class Group:
    """The coordinator's view. A rebalance is eager: everybody gives everything up, then all get their new share."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.members: list[FakeConsumer] = []
        self.generation = 0
        self.committed: dict[Place, int] = {}
        self._joined: set[FakeConsumer] = set()
        self._shares: dict[FakeConsumer, list[Place]] = {}

    def join(self, member: FakeConsumer) -> None:
        """A new member: a rebalance begins."""
        if member not in self.members:
            self.members.append(member)
        self.rebalance()

    def leave(self, member: FakeConsumer) -> None:
        """A member left, or (if a test says so) did not heart-beat: a rebalance begins without it."""
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def rebalance(self) -> None:
        """Begin a rebalance. It is complete when every member has polled."""
        self._joined.clear()
        self._shares.clear()
        self.kafka.changed()

    def rejoin(self, member: FakeConsumer) -> None:
        """The member has given up what it had; the last one to say so completes the rebalance."""
        self._joined.add(member)
        if self._joined.issuperset(self.members):
            self.generation += 1
            self._shares = self._range()
            self.kafka.changed()

    def waits_for(self, member: FakeConsumer) -> bool:
        """Whether a rebalance is going on that the member has not joined yet."""
        return member in self.members and member not in self._joined

    def share(self, member: FakeConsumer) -> list[Place] | None:
        """What the member has; None while a rebalance is going on."""
        return self._shares.get(member)

    def commit(self, positions: Iterable[TopicPartition]) -> None:
        """Remember offsets."""
        self.committed |= {(position.topic, position.partition): position.offset for position in positions}
        self.kafka.changed()

    def _range(self) -> dict[FakeConsumer, list[Place]]:
        shares: dict[FakeConsumer, list[Place]] = {member: [] for member in self.members}
        for topic in sorted({topic for member in self.members for topic in member.topics}):
            takers = [member for member in self.members if topic in member.topics]
            count = len(self.kafka.create(topic))
            for number in range(count):
                shares[takers[number * len(takers) // count]].append((topic, number))
        return shares
