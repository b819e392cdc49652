"""The Kafka topics that a configuration needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kalinka_jms.config.settings import Settings
from kalinka_jms.names import parked_topic
from kalinka_jms.template import Template

Purpose = Literal["down", "up", "parked", "dead"]

KEPT: dict[Purpose, dict[str, str]] = {
    "down": {},
    "up": {},
    "parked": {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"},  # `ttl` counts from it
    "dead": {"retention.ms": "-1"},  # kept until someone looks
}
"""The settings of their own that topics are created with."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic, what it is for, and the group of brokers whose devices are served from it (none: of no group)."""

    name: str
    purpose: Purpose
    group: str | None = None
    written: bool = True
    """Whether Kalinka writes to it: not to one that only others fill."""

    @property
    def settings(self) -> dict[str, str]:
        """Its own settings; all others are the cluster's."""
        return KEPT[self.purpose]


def wanted(settings: Settings) -> tuple[Topic, ...]:
    """Every topic whose name the configuration tells, once each, those that devices are served from first.

    Those of one group have equal numbers of partitions: a record is parked under the number of the partition it came
    from, and one number of all of them is one instance's.
    """
    up = [
        Topic(_named(route.topic, group), "up")
        for group in settings.groups
        for route in settings.routes.up
        if not _open(route.topic)
    ]
    filled = {topic.name for topic in up} if len(settings.groups) == 1 else None  # else records move between groups
    down = [
        Topic(topic, "down", group, written=filled is None or topic in filled)
        for group in settings.groups
        for topic in dict.fromkeys(_named(route.from_, group) for route in settings.routes.down)
    ]
    parked = [Topic(parked_topic(group), "parked", group) for group in settings.groups]
    every = [*down, *parked, *up, Topic(settings.dead, "dead")]
    return tuple(
        {topic.name: topic for topic in reversed(every)}[name] for name in dict.fromkeys(t.name for t in every)
    )


def unnamed(settings: Settings) -> tuple[str, ...]:
    """The templates of up routes whose topics only the messages name."""
    return tuple(dict.fromkeys(route.topic for route in settings.routes.up if _open(route.topic)))


def _named(template: str, group: str) -> str:
    return Template(template, ".").format({"group": group})


def _open(template: str) -> bool:
    return bool(set(Template(template, ".").names) - {"group"})
