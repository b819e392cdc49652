"""MQTT → broker → Kafka → broker → MQTT at a steady rate: what Kalinka adds to what the servers take alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench import names
from tests.bench.rows import AT_LEAST_ONCE, NONE, Row
from tests.bench.scale import Scale
from tests.bench.stand import STOMP, Stand
from tests.bench.turns import Contender, Figures, by_turns

RATE = 500.0
"""Messages a second."""
QUEUE, MQTT = "kalinka.mqtt.pub", 1883


def run(stand: Stand, scale: Scale) -> list[Row]:
    """The servers alone and Kalinka, by turns."""

    def alone() -> Figures:
        with _relay(stand):
            return _pulses(stand, scale)

    def bridged() -> Figures:
        with stand.instances("pub") as (pub,), stand.instances("sub") as (sub,):
            for instance in (pub, sub):
                instance.wait_ready(60)
            return _pulses(stand, scale)

    with stand.instances("registry") as (registry,):
        registry.wait_ready(60)
        contenders = (
            Contender(names.RELAY, NONE, alone),
            Contender(names.BRIDGED, AT_LEAST_ONCE, bridged),
        )
        return by_turns(contenders, scale.runs, stand.sync)


@contextmanager
def _relay(stand: Stand) -> Iterator[None]:
    topic = stand.topic(f"bench.{stand.log('relay').stem}")
    arguments = (stand.hosts[0], stand.hosts[1], STOMP, QUEUE, stand.servers, topic)
    command = (sys.executable, "-m", "tests.bench.relay", json.dumps(arguments))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "ready\n", "the relay did not start"
            yield
        finally:
            process.kill()


def _pulses(stand: Stand, scale: Scale) -> Figures:
    arguments = (stand.hosts[0], stand.hosts[1], MQTT, RATE, scale.seconds)
    command = (sys.executable, "-m", "tests.bench.pulses", json.dumps(arguments))
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=scale.seconds + 120)
    figures: Figures = json.loads(output.stdout)
    return figures
