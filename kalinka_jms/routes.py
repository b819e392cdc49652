"""Routes: from the MQTT topic of a message to its place in Kafka, and from a record to its destination.

The hot path is one look-up in a cache; whatever depends only on topic, device and source is made once.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Protocol

from kalinka_jms import murmur2
from kalinka_jms.config.fields import is_kafka_topic
from kalinka_jms.config.settings import DownRoute, UpRoute
from kalinka_jms.errors import FrameError, RecordError
from kalinka_jms.names import CANARY, MAX_DESTINATION, matches, refusal, to_jms, to_mqtt
from kalinka_jms.stomp.frames import unescape
from kalinka_jms.template import Template, device_of

__all__ = [
    "CANARY",
    "Downlink",
    "Downlinks",
    "Template",
    "Uplink",
    "Uplinks",
    "device_of",
    "matches",
    "refusal",
    "to_jms",
    "to_mqtt",
]

CACHED = 65_536
"""Topics that are remembered, at about 1 kB each. Beyond that the one used longest ago is worked out again (~10 µs)."""

SHOWN = 200
"""Characters of a name that a reason shows."""

ANYBODY = {"device": "*", "source": "*"}
NOBODY = {"device": CANARY, "source": CANARY}

KALINKA_SOURCE = "kalinka.source"
MQTT_TOPIC = "mqtt.topic"


class Headers(Protocol):
    """The headers of a STOMP frame."""

    def raw(self, name: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Uplink:
    """Where the messages of one MQTT topic go. `headers` are those that all of its records begin with."""

    topic: str
    key: bytes
    device: str
    source: str
    group: str
    headers: tuple[tuple[str, bytes], ...]
    envelope: str
    route: str = ""
    """The `from` of its route."""


@dataclass(frozen=True, slots=True)
class Downlink:
    """Where the records of one Kafka topic for one device go.

    `place` is where in `Downlinks.presence_topics`, and in `canaries`, its destination belongs.
    """

    destination: str
    device: str
    route: DownRoute
    group: str
    place: int


class Uplinks:
    """The routes from MQTT to Kafka; the first that matches wins. May be shared by threads."""

    def __init__(self, routes: Sequence[UpRoute], groups: Sequence[str]) -> None:
        self._routes = [(Template(r.from_), Template(r.topic, "."), Template(r.key), r) for r in routes]
        self._groups = tuple(groups)
        self._link = lru_cache(CACHED)(self._made)

    def link(self, mqtt_topic: str) -> Uplink:
        """Where a message of this MQTT topic goes. Raises RecordError where no route has it or an id is refused."""
        return self._link(mqtt_topic)

    def link_destination(self, frame: Headers) -> Uplink:
        """As `link`, for a message as the broker hands it out. The topic is the one that the device published to."""
        return self.link(original_topic(frame.raw("original-destination") or frame.raw("destination") or b""))

    def _made(self, mqtt_topic: str) -> Uplink:
        if len(mqtt_topic.encode(errors="replace")) > MAX_DESTINATION:
            raise RecordError(f"the MQTT topic is longer than {MAX_DESTINATION} bytes")
        for source, topic, key, route in self._routes:
            values = source.match(mqtt_topic)
            if values is not None:
                return self._filled(mqtt_topic, values, topic, key, route)
        raise RecordError(f"no route for the MQTT topic {mqtt_topic[:SHOWN]!r}")

    def _filled(
        self, mqtt_topic: str, values: dict[str, str], topic: Template, key: Template, route: UpRoute
    ) -> Uplink:
        for name in ("source", "device"):
            if name in values:
                _accept(name, values[name])
        filled = key.format(values)
        device, source = values.get("device", ""), values.get("source", "")
        group = self._group(route.group_by, device, source, filled)
        headers = ((KALINKA_SOURCE, source.encode()), (MQTT_TOPIC, mqtt_topic.encode()))
        return Uplink(
            topic=_kafka_topic(topic, values | {"group": group}),
            key=filled.encode(),
            device=device,
            source=source,
            group=group,
            headers=headers if source else headers[1:],
            envelope=route.envelope,
            route=route.from_,
        )

    def _group(self, by: str, device: str, source: str, key: str) -> str:
        """An id keeps its group as long as the groups stay the same.

        By device: crc32, for with the hash that places the key a group would use only some of its partitions.
        By source: the hash by which the Java kalinka chooses its topics.
        """
        if by == "source":
            return self._groups[murmur2.place(source.encode(), len(self._groups))]
        return self._groups[zlib.crc32((device or source or key).encode()) % len(self._groups)]


class Downlinks:
    """The routes from Kafka to MQTT, for the groups given. May be shared by threads."""

    def __init__(self, routes: Sequence[DownRoute], groups: Sequence[str]) -> None:
        self._routes: dict[str, tuple[DownRoute, str, Template]] = {}
        for group, route in product(groups, routes):
            topic = Template(route.from_, ".").format({"group": group})
            self._routes.setdefault(topic, (route, group, Template(route.to).bound({"group": group})))
        self._templates = tuple({to.text: to for _, _, to in self._routes.values()}.values())
        self._canaries = {self._jms(to, ANYBODY): self._jms(to, NOBODY) for to in self._templates}
        self._presence = tuple(self._canaries)
        self._link = lru_cache(CACHED)(self._made)

    @property
    def topics(self) -> tuple[str, ...]:
        """The Kafka topics to read."""
        return tuple(self._routes)

    @property
    def presence_topics(self) -> tuple[str, ...]:
        """What devices listen to, as JMS wildcards."""
        return self._presence

    @property
    def device_topics(self) -> tuple[str, ...]:
        """Those of them that routes with `delivery = "device"` send to."""
        ways = self._routes.values()
        return tuple(dict.fromkeys(self._jms(to, ANYBODY) for route, _, to in ways if route.delivery == "device"))

    @property
    def canaries(self) -> tuple[str, ...]:
        """JMS destinations of the device that is never there; one for each of `presence_topics`, in their order."""
        return tuple(self._canaries.values())

    def link(self, kafka_topic: str, device: str, source: str | None) -> Downlink:
        """Where a record goes. Raises RecordError where that cannot be said or an id is refused."""
        return self._link(kafka_topic, device, source)

    def route_for(self, kafka_topic: str) -> tuple[DownRoute, str]:
        """The route of a Kafka topic, and its group. Raises RecordError where there is none."""
        route, group, _ = self._route(kafka_topic)
        return route, group

    def devices(self, filter_jms: str) -> tuple[str, ...]:
        """The devices that a filter names at their place in a route; none where it names nobody, or a refused id."""
        found = {device_of(to, filter_jms) for to in self._templates}
        return tuple(sorted(device for device in found if device is not None and refusal(device) is None))

    def _route(self, kafka_topic: str) -> tuple[DownRoute, str, Template]:
        try:
            return self._routes[kafka_topic]
        except KeyError:
            raise RecordError(f"no route for the Kafka topic {kafka_topic}") from None

    def _made(self, kafka_topic: str, device: str, source: str | None) -> Downlink:
        route, group, to = self._route(kafka_topic)
        _accept("device", device)
        if "source" in to.names:
            if source is None:
                raise RecordError(f"no source, and the route's destination {route.to} needs one")
            _accept("source", source)
        destination = self._jms(to, {"device": device, "source": source or ""})
        if len(destination.encode()) > MAX_DESTINATION:
            raise RecordError(f"the destination is longer than {MAX_DESTINATION} bytes")
        return Downlink(destination, device, route, group, self._presence.index(self._jms(to, ANYBODY)))

    @staticmethod
    def _jms(to: Template, values: dict[str, str]) -> str:
        """The literal parts are MQTT, the values are the same in both (refused ids are those that are not)."""
        return "".join(to_jms(part) if isinstance(part, str) else values[part.name] for part in to.parts)


def original_topic(escaped: bytes) -> str:
    """The MQTT topic of a JMS destination as a STOMP header has it. Raises RecordError where it is none."""
    try:
        text = unescape(escaped.decode())
    except UnicodeDecodeError:
        raise RecordError("the topic is not UTF-8") from None
    except FrameError as error:
        raise RecordError(str(error)) from None
    if not text.startswith("/topic/"):
        raise RecordError(f"not published to a topic: {text[:SHOWN]!r}")
    return to_mqtt(text.removeprefix("/topic/"))


def _accept(name: str, id: str) -> None:
    reason = refusal(id)
    if reason is not None:
        raise RecordError(f"{name} {id[:SHOWN]!r}: {reason}")


def _kafka_topic(template: Template, values: dict[str, str]) -> str:
    """A value of several levels has dots in Kafka where MQTT has slashes."""
    topic = template.format({name: value.replace("/", ".") for name, value in values.items()})
    if not is_kafka_topic(topic):
        raise RecordError(f"{topic[:SHOWN]!r} cannot be a Kafka topic (letters, digits, . _ -; at most 249)")
    return topic
