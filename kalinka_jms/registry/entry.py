"""An entry of the registry: every broker where one device listens.

Brokers know nothing of each other and their advisories have no common order, so an entry never says "the device is at
B": it holds a part for each broker that said the device listens there, and a number that tells which of them said so
last. The number is made by compare-and-set (highest + 1), not by a clock.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.routes import matches


@dataclass(frozen=True, slots=True)
class Part:
    """Where a device listens on one broker."""

    broker: str
    filters: tuple[Filter, ...]
    number: int = 0
    """Higher is newer; it means nothing outside its entry."""

    @property
    def consumers(self) -> frozenset[str]:
        """The ids of the broker's consumers behind the filters."""
        return frozenset(filter.consumer for filter in self.filters)

    @property
    def connections(self) -> frozenset[tuple[str, int]]:
        """The connections that the filters belong to."""
        return frozenset(filter.connection for filter in self.filters)

    def listens(self, destination: str) -> bool:
        """Whether one of the filters matches the JMS destination."""
        return any(matches(filter.topic, destination) for filter in self.filters)


@dataclass(frozen=True, slots=True)
class Entry:
    """Every broker where a device listens, newest first. Make one with `Entry.of` or `Entry.decode`."""

    parts: tuple[Part, ...] = ()

    @classmethod
    def of(cls, *parts: Part) -> Entry:
        """The entry of these parts, in any order."""
        return cls(tuple(sorted(parts, key=lambda part: (-part.number, part.broker))))

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def brokers(self) -> tuple[str, ...]:
        """The names of the brokers, newest first."""
        return tuple(part.broker for part in self.parts)

    def part(self, broker: str) -> Part | None:
        """The part of a broker, or None."""
        return next((part for part in self.parts if part.broker == broker), None)

    def owners(self, destination: str) -> tuple[str, ...]:
        """The brokers that have a listener for the JMS destination, newest first."""
        return tuple([part.broker for part in self.parts if part.listens(destination)])

    def without(self, brokers: Collection[str]) -> Entry:
        """The entry as it counts while these brokers are down."""
        if not any(part.broker in brokers for part in self.parts):
            return self
        return Entry(tuple(part for part in self.parts if part.broker not in brokers))

    def merged(self, broker: str, part: Part | None, live: bool) -> Entry:
        """The entry after `broker` said where the device listens on it now (None: nowhere).

        `live` makes the broker the newest, if the part has a connection that was not known. One that is known already
        says nothing new about where the device came last: a device that subscribes to two things and moves on at once
        would else be taken back by the second one, told after the first of the next broker.
        """
        mine = self.part(broker)
        others = tuple(other for other in self.parts if other is not mine)
        if part is None or not part.filters:
            return Entry(others) if mine else self
        return Entry.of(*others, replace(part, number=_number(part, mine, others, live)))

    def encode(self) -> bytes:
        """The entry as the bytes of its znode (JSON)."""
        parts = [
            {"broker": part.broker, "number": part.number, "filters": [_to_json(filter) for filter in part.filters]}
            for part in self.parts
        ]
        return json.dumps({"parts": parts}, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """The entry that a znode holds. Unknown keys are passed over. Raises RegistryError if it is not an entry."""
        try:
            return cls.of(*(_part(node) for node in json.loads(data)["parts"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"not an entry of the registry ({error!r}): {data[:200]!r}") from error


def _number(part: Part, mine: Part | None, others: tuple[Part, ...], live: bool) -> int:
    if live and (mine is None or not part.connections <= mine.connections):
        return max((other.number for other in others), default=0) + 1
    if mine is not None:
        return mine.number
    return min((other.number for other in others), default=2) - 1


def _to_json(filter: Filter) -> dict[str, Any]:
    node: dict[str, Any] = {"topic": filter.topic, "consumer": filter.consumer}
    if filter.subscription is not None:
        node["subscription"] = filter.subscription
    return node


def _part(node: dict[str, Any]) -> Part:
    filters = tuple(Filter(str(f["topic"]), str(f["consumer"]), f.get("subscription")) for f in node["filters"])
    return Part(str(node["broker"]), filters, int(node["number"]))
