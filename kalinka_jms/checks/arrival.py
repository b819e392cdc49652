"""Does the broker tell when a device begins to listen?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kalinka_jms.checks import mqtt, sample
from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.checks.probe import Probe
from kalinka_jms.config import Broker
from kalinka_jms.names import PROBE, to_mqtt
from kalinka_jms.stomp.frames import Frame


def filters(routes: Sequence[str], group: str) -> dict[str, str]:
    """What the check's device listens to (JMS form) → the route's template."""
    return sample.table(routes, group, PROBE, "*")


def advisories(wanted: Mapping[str, str]) -> list[str]:
    """What to subscribe to."""
    return [f"Consumer.Topic.{name}" for name in wanted]


def look(broker: Broker, probe: Probe, wanted: Mapping[str, str]) -> Iterator[Finding]:
    """Let a device come over MQTT; where that cannot be, listen over STOMP in its place. Raises LinkError."""
    protocol = "MQTT"
    try:
        with mqtt.listening(broker, [to_mqtt(name) for name in wanted]):
            frames = probe.answers()
    except mqtt.NotTried as error:
        yield not_tried(broker, error)
        protocol = "STOMP"
        for number, name in enumerate(wanted, 2):
            probe.listen(name, str(number))
        frames = probe.answers()
    yield from _judged(broker, {_topic(frame): frame for frame in frames}, wanted, protocol)


def _judged(broker: Broker, told: Mapping[str, Frame], wanted: Mapping[str, str], protocol: str) -> Iterator[Finding]:
    missing = [name for name in wanted if name not in told]
    for name in missing:
        yield Finding(
            broker.name,
            Kind.FINDING,
            f'nothing tells when a device begins to listen over {protocol} (route to "{wanted[name]}"): it would never '
            "be found, and all of its records would be parked",
            'leave advisorySupport of <broker> "true", and subscriptionStrategy of its MQTT connector at the default',
        )
    empty = any(not told[name].body for name in wanted if name in told)
    if empty:
        yield Finding(
            broker.name,
            Kind.FINDING,
            "advisories come without a body: no device would be found",
            "have XStream and Jettison among the broker's jars (they are in the official distribution), and let nobody "
            "subscribe to ActiveMQ.Advisory.Consumer topics with another transformation",
        )
    if not missing and not empty:
        yield Finding(broker.name, Kind.FINE, f"a device that begins to listen over {protocol} is seen")


def not_tried(broker: Broker, error: mqtt.NotTried) -> Finding:
    """Why the device could not come over MQTT, and how much that matters."""
    means = f"no device was tried over MQTT: {error}"
    if isinstance(error, mqtt.NotInstalled):
        return Finding(broker.name, Kind.NOTE, means, 'pip install "kalinka[lab]"')
    if isinstance(error, mqtt.Refused):
        remedy = "see with a device of your own whether it is found: `kalinka devices --follow`"
        return Finding(broker.name, Kind.NOTE, means, remedy)
    if broker.mqtt is None:
        return Finding(broker.name, Kind.NOTE, means, 'where devices connect elsewhere add mqtt = "mqtt://host:port"')
    return Finding(broker.name, Kind.UNREACHABLE, means, "start its MQTT connector, or correct mqtt of this broker")


def _topic(frame: Frame) -> str:
    return (frame.header("destination") or "").partition(".Consumer.Topic.")[2]
