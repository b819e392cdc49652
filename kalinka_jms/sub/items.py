"""Makes items of the records that Kafka hands over: where they go, as which stream, in which bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from kalinka_jms.config.settings import DownRoute, Sub
from kalinka_jms.errors import RecordError
from kalinka_jms.records import DEFAULT_SOURCE, from_record
from kalinka_jms.routes import CACHED, Downlinks, matches
from kalinka_jms.sub.sends import send_prefix
from kalinka_jms.sub.share import Item, Way


class Items:
    """Makes items. What depends only on topic, device and source is made once."""

    def __init__(self, downlinks: Downlinks, settings: Sub) -> None:
        self._downlinks = downlinks
        self._settings = settings
        self._topic_limits = lru_cache(CACHED)(self._made_limits)
        self.limited = any(limit is not None for topic in downlinks.topics for limit in self._made_limits(topic))
        """Whether any route has a limit."""
        self._way = lru_cache(CACHED)(self._made_way)
        self._route_for = lru_cache(CACHED)(downlinks.route_for)

    def fresh(self, message: Any) -> Item:
        """The item of a record of a downlink topic. Raises RecordError where it can never be delivered."""
        return self._made(message, message.topic(), message.key())

    def parked(self, message: Any, device: str, name: str, id: str) -> Item:
        """The item of a parked record, whose key says what it was made of. Raises RecordError like `fresh`."""
        topic, _, _ = name.partition(",")
        item = self._made(message, topic, device.encode())
        item.parked, item.mark = message.offset(), (device, name, id, *item.mark[3:])
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

    def _made(self, message: Any, topic: str, key: bytes | None) -> Item:
        route, _ = self._route_for(topic)
        place, offset, stamp = message.partition(), message.offset(), message.timestamp()[1]
        command = from_record(
            topic, place, offset, key, message.value(), _headers(message), stamp, route.envelope, route.qos
        )
        way = self._way(topic, command.device, command.source)
        prefix, payload = way.prefixes[command.qos], command.value
        mark = (*way.stream, command.id, command.hops, command.attempt)
        item = Item(way, command, message, mark, prefix, payload, len(payload) + len(prefix))
        if way.ttl is not None and command.timestamp > 0:
            item.expires = command.timestamp / 1000 + way.ttl
        return item

    def _made_way(self, topic: str, device: str, source: str | None) -> Way:
        source = DEFAULT_SOURCE if source is None else source
        link = self._downlinks.link(topic, device, source)
        patterns = self._downlinks.presence_topics
        place = next(number for number, pattern in enumerate(patterns) if matches(pattern, link.destination))
        # a source that is not in the destination was not looked at, and may hold anything
        name = f"{topic},{source}" if "{source}" in link.route.to else f"{topic},"
        by_device, ttl = link.route.delivery == "device", self.limits(name)[0]
        prefixes = (
            send_prefix(link.destination, 0),
            send_prefix(link.destination, 1),
            send_prefix(link.destination, 2),
        )
        return Way((device, name), link.destination, place, by_device, ttl, prefixes)


def _headers(message: Any) -> Any:
    try:
        return message.headers()
    except ValueError as error:  # Kafka's headers have names in UTF-8, and nobody checks that
        raise RecordError(f"headers that cannot be read: {error}") from None
