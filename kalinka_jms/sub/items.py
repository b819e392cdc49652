"""Makes items of the records that Kafka hands over: where they go, as which stream, in which bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kalinka_jms.config.settings import DownRoute, Sub
from kalinka_jms.errors import RecordError
from kalinka_jms.records import DEFAULT_SOURCE, Command, from_record
from kalinka_jms.routes import CACHED, Downlinks, matches
from kalinka_jms.sub.sends import Send, send_prefix
from kalinka_jms.sub.share import Item


@dataclass(frozen=True, slots=True)
class _Way:
    """Where the records of one stream go."""

    destination: str
    place: int
    """That of the destination's pattern among `presence_topics`."""
    name: str
    """The stream's: `<Kafka topic>,<source>`, without the source where the destination does not have it."""
    by_device: bool
    ttl: float | None
    """Seconds that a record is of use."""


class Items:
    """Makes items. What depends only on topic, device and source is made once."""

    def __init__(self, downlinks: Downlinks, settings: Sub) -> None:
        self._downlinks = downlinks
        self._settings = settings
        self._topic_limits = lru_cache(CACHED)(self._made_limits)
        self.limited = any(limit is not None for topic in downlinks.topics for limit in self._made_limits(topic))
        """Whether any route has a limit."""
        self._way = lru_cache(CACHED)(self._made_way)
        self._prefix = lru_cache(CACHED)(send_prefix)

    def fresh(self, message: Any) -> Item:
        """The item of a record of a downlink topic. Raises RecordError where it can never be delivered."""
        route, _ = self._downlinks.route_for(message.topic())
        return self._made(message, _command(message, message.topic(), message.key(), route))

    def parked(self, message: Any, device: str, name: str, id: str) -> Item:
        """The item of a parked record, whose key says what it was made of. Raises RecordError like `fresh`."""
        topic, _, _ = name.partition(",")
        route, _ = self._downlinks.route_for(topic)
        command = _command(message, topic, device.encode(), route)
        item = self._made(message, command if command.id == id else command._replace(id=id))
        item.parked, item.name = message.offset(), name
        return item

    def destination(self, device: str, name: str) -> str:
        """The JMS destination of a stream. Raises RecordError where no route has it any more."""
        topic, _, source = name.partition(",")
        return self._downlinks.link(topic, device, source).destination

    def route(self, name: str) -> DownRoute:
        """The route of a stream. Raises RecordError where there is none any more."""
        return self._downlinks.route_for(name.partition(",")[0])[0]

    def limits(self, name: str) -> tuple[float | None, int | None]:
        """A stream's `ttl` (seconds) and `max_parked` (records). Raises RecordError where no route has it any more."""
        return self._topic_limits(name.partition(",")[0])

    def _made_limits(self, topic: str) -> tuple[float | None, int | None]:
        route, _ = self._downlinks.route_for(topic)
        return (
            self._settings.ttl if route.ttl is None else route.ttl,
            self._settings.max_parked if route.max_parked is None else route.max_parked,
        )

    def _made(self, message: Any, command: Command) -> Item:
        source = DEFAULT_SOURCE if command.source is None else command.source
        way = self._way(command.topic, command.device, source)
        send = Send(self._prefix(way.destination, command.qos), command.value)
        size = len(command.value) + len(send.prefix)
        item = Item(command, message, way.name, way.destination, send, way.place, size, by_device=way.by_device)
        if way.ttl is not None and command.timestamp > 0:
            item.expires = command.timestamp / 1000 + way.ttl
        return item

    def _made_way(self, topic: str, device: str, source: str) -> _Way:
        link = self._downlinks.link(topic, device, source)
        patterns = self._downlinks.presence_topics
        place = next(number for number, pattern in enumerate(patterns) if matches(pattern, link.destination))
        # a source that is not in the destination was not looked at, and may hold anything
        name = f"{topic},{source}" if "{source}" in link.route.to else f"{topic},"
        return _Way(link.destination, place, name, link.route.delivery == "device", self.limits(name)[0])


def _command(message: Any, topic: str, key: bytes | None, route: DownRoute) -> Command:
    try:
        headers = message.headers()
    except ValueError as error:  # Kafka's headers have names in UTF-8, and nobody checks that
        raise RecordError(f"headers that cannot be read: {error}") from None
    return from_record(
        topic,
        message.partition(),
        message.offset(),
        key,
        message.value(),
        headers,
        message.timestamp()[1],
        route.envelope,
        route.qos,
    )
