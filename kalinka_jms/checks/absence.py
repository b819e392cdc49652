"""Does the broker report a message for a device that is not there? And who keeps it from doing so?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kalinka_jms.checks import sample
from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.checks.probe import Probe
from kalinka_jms.checks.strangers import clients
from kalinka_jms.config import Broker
from kalinka_jms.errors import FrameError
from kalinka_jms.names import CANARY, matches, to_mqtt
from kalinka_jms.registry.advisories import Begun, Filter, parse
from kalinka_jms.stomp.frames import Frame

WHOLE = "`kalinka broker-config` prints a whole activemq.xml"


def canaries(routes: Sequence[str], group: str) -> dict[str, str]:
    """Destination of the canary → the route's template. A canary is a device that is never there."""
    return sample.table(routes, group, CANARY, CANARY)


def advisories(destinations: Mapping[str, str]) -> list[str]:
    """What to subscribe to."""
    return [f"{kind}.Topic.{name}" for kind in ("NoConsumer", "Consumer") for name in destinations]


def look(broker: Broker, probe: Probe, destinations: Mapping[str, str]) -> Iterator[Finding]:
    """Send to each canary. Raises LinkError."""
    for name in destinations:
        probe.send(name, [("ActiveMQ.MQTT.QoS", "0"), ("kalinka-check", probe.link.identity)])
    frames = probe.answers()
    mine = probe.link.identity.encode()
    reported = {_destination(frame) for frame in frames if frame.raw("kalinka-check") == mine}
    heard = {name: [f for f in _filters(frames) if matches(f.topic, name)] for name in destinations}
    silent = [name for name in destinations if name not in reported]
    yield from _strangers(broker, {filter for filters in heard.values() for filter in filters})
    for name in silent:
        if not heard[name]:
            yield _silent(broker, destinations[name])
    if not silent:
        told = f"a message for an absent device is reported ({len(destinations)} routes)"
        yield Finding(broker.name, Kind.FINE, told)


def _silent(broker: Broker, route: str) -> Finding:
    return Finding(
        broker.name,
        Kind.FINDING,
        f'a message for an absent device vanishes in silence and would count as delivered (route to "{route}")',
        f'add <policyEntry topic="{sample.wildcard(route, broker.group)}" sendAdvisoryIfNoConsumers="true"/> '
        f"to its activemq.xml; {WHOLE}",
    )


def _strangers(broker: Broker, filters: set[Filter]) -> Iterator[Finding]:
    names = clients(broker, filters) if filters else {}
    for filter, client in sorted(names.items(), key=lambda item: item[1]):
        yield Finding(
            broker.name,
            Kind.FINDING,
            f'the client {client} listens to "{to_mqtt(filter.topic)}": while it does, this broker reports no absent '
            "device, and what is sent as a device leaves counts as delivered",
            "let it subscribe to less, or read the Kafka topics instead",
        )


def _filters(frames: Sequence[Frame]) -> list[Filter]:
    """The subscriptions that the frames tell of."""
    found = []
    for frame in frames:
        try:
            advisory = parse(frame.body) if frame.raw("type") == b"Advisory" else None
        except FrameError:
            continue
        if isinstance(advisory, Begun):
            found.append(advisory.filter)
    return found


def _destination(frame: Frame) -> str:
    return (frame.header("destination") or "").partition(".NoConsumer.Topic.")[2]
