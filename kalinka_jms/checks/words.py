"""Does the broker tell what routes with delivery = "device" are final by?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kalinka_jms.checks import mqtt, sample
from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.checks.probe import Probe
from kalinka_jms.config import Broker, Settings
from kalinka_jms.names import PROBE, to_mqtt

PATIENCE = 15.0
"""Seconds until what was not told never will be: the first one takes a busy broker several."""

AGAIN = 3.0
"""Seconds after which a message is sent anew: a busy broker may tell of an acknowledgement and not of its dispatch."""

PAUSE = 0.05
"""Seconds between two looks: a broker tells of a dispatch when its socket has taken it."""

FLAGS = {"MessageDispatched": "advisoryForDispatched", "MessageConsumed": "advisoryForConsumed"}
"""The advisory → the attribute of a policy that makes the broker send it."""

Told = dict[str, set[str]]
"""Destination → the kinds of advisories that came."""


def destinations(settings: Settings, group: str) -> dict[str, str]:
    """The destinations of the check's device on such routes (JMS form) → the route's template."""
    routes = [route.to for route in settings.routes.down if route.delivery == "device"]
    return sample.table(routes, group, PROBE, PROBE)


def advisories(wanted: Mapping[str, str]) -> list[str]:
    """What to subscribe to."""
    return [f"{kind}.Topic.{name}" for name in wanted for kind in FLAGS]


def look(broker: Broker, probe: Probe, wanted: Mapping[str, str]) -> Iterator[Finding]:
    """Let a persistent session acknowledge a message of each route; where no device can come over MQTT, listen over
    STOMP in its place, which shows the half of it. Raises LinkError."""
    kinds = set(FLAGS)
    try:
        with mqtt.listening(broker, [to_mqtt(name) for name in wanted], qos=1, persistent=True):
            told = _told(probe, wanted, kinds)
    except mqtt.NotTried:  # that is said of another check
        kinds = {"MessageDispatched"}
        with _stomp(probe, wanted):
            told = _told(probe, wanted, kinds)
    yield from _judged(broker, wanted, {name: kinds - told[name] for name in wanted})


@contextmanager
def _stomp(probe: Probe, wanted: Mapping[str, str]) -> Iterator[None]:
    for number, name in enumerate(wanted, 1000):
        probe.listen(name, str(number))
    yield


def _told(probe: Probe, wanted: Mapping[str, str], kinds: set[str]) -> Told:
    """Send a message to each, and another one where something is not told; what was told in time."""
    ids: dict[str, str] = {}
    told: Told = {name: set() for name in wanted}
    deadline = again = time.monotonic()
    deadline += PATIENCE
    while (missing := [name for name, one in told.items() if kinds - one]) and time.monotonic() < deadline:
        if time.monotonic() >= again:
            again += AGAIN
            ids |= {probe.send(name, [("ActiveMQ.MQTT.QoS", "1")]): name for name in missing}
        for frame in probe.answers():
            name = ids.get(frame.header("orignalMessageId") or "")  # the broker's spelling
            if name is not None:
                kind = (frame.header("destination") or "").removeprefix("/topic/ActiveMQ.Advisory.")
                told[name].add(kind.partition(".")[0])
        time.sleep(PAUSE)
    return told


def _judged(broker: Broker, wanted: Mapping[str, str], missing: Mapping[str, set[str]]) -> Iterator[Finding]:
    for name, kinds in missing.items():
        if kinds:
            flags = " ".join(f'{flag}="true"' for kind, flag in FLAGS.items() if kind in kinds)
            yield Finding(
                broker.name,
                Kind.FINDING,
                f'the broker does not tell what a device has (route to "{wanted[name]}", delivery = "device"): '
                "its records would never count as delivered, and be parked again and again",
                f'add {flags} to the policyEntry topic="{sample.wildcard(wanted[name], broker.group)}" of its '
                "activemq.xml; `kalinka broker-config --delivery-device` prints a whole one",
            )
    if not any(missing.values()):
        told = f'the broker tells what a device has ({len(wanted)} routes with delivery = "device")'
        yield Finding(broker.name, Kind.FINE, told)
