"""A window full of messages, some of which can never be mapped or written: the others pass, once each and in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from scene import DEAD, Scene, assert_exact

from kalinka_jms.config import Broker
from kalinka_jms.dead import STOMP_HEAD, split
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.stomp.link import Link

pytestmark = pytest.mark.lab

SIZE = "max.message.bytes"
LIMIT = 500_000
"""Bytes of a record in the topic of the devices, while a test has it so."""


@pytest.fixture
def listeners(lab: Lab, tmp_path: Path) -> Iterator[Instances]:
    """Everything but `pub`: what devices publish waits in the brokers' queues until it is started."""
    with Instances(lab.config_path, tmp_path) as instances:
        for service in ("registry", "sub"):
            instances.start(service)
        instances.wait_ready()
        yield instances


def test_poison_in_a_full_window_neither_stops_nor_reorders_its_neighbours(
    scene: Scene, lab: Lab, listeners: Instances
) -> None:
    """2,400 ordinary messages from two devices through one broker, twice its window, and 60 of five other kinds."""
    devices, back_end = scene.trio(0, 0, 1), scene.back_end()
    run, random = scene.ledger.run.encode(), Random(5)
    kinds = [
        (" blank", "the id begins or ends with a blank"),
        ("a.b", "the id contains"),
        ("kalinka-canary", "reserved"),
        (devices[2].name, "Kafka refused it"),
        ("strange headers", "reserved"),
    ]
    poison: dict[bytes, str] = {}
    with limited(lab, {"0.mqtt.mqtt": LIMIT}), strange(lab) as link:
        for number in range(1200):
            for sender in devices[:2]:
                sender.send(devices[2].name)
            if number % 20 == 7:
                to, reason = random.choice(kinds)
                payload = b"%b %d \x00\xff" % (run, number) + (b"L" * 2 * LIMIT if "Kafka" in reason else b"")
                poison[payload] = reason
                if to == "strange headers":
                    link.write(_send("mqtt.x.mqtt.kalinka-probe.pub", payload))
                else:
                    devices[number % 2].publish(f"mqtt/{devices[number % 2].name}/mqtt/{to}/pub", payload)
        for sender in devices[:2]:
            sender.flush()
        listeners.start("pub", 2)
        listeners.wait_ready()
        verdict = scene.settle()
        assert wait_until(lambda: len(_letters(back_end, run)) == len(poison), 60)
    assert_exact(verdict, sent=2400)
    letters = _letters(back_end, run)
    assert set(letters) == set(poison)
    for payload, (had, own) in letters.items():
        assert poison[payload] in own["kalinka.reason"], own
        assert own["kalinka.origin"] == "dev1/kalinka.mqtt.pub" and own["kalinka.attempt"] == "1"
        assert b"MESSAGE\n" in had[STOMP_HEAD]


def test_what_not_even_the_dead_letter_topic_takes_is_at_the_broker_and_in_a_letter(
    scene: Scene, lab: Lab, listeners: Instances
) -> None:
    """It is acknowledged only as what the broker moves to its own dead-letter queue; everybody else passes."""
    devices, back_end = scene.trio(0, 0, 1), scene.back_end()
    large = scene.ledger.run.encode() + b"L" * 2 * LIMIT
    kept: list[bytes] = []
    with limited(lab, {"0.mqtt.mqtt": LIMIT, DEAD: LIMIT}), dead_queue(lab, kept):
        for number in range(300):
            for sender in devices[:2]:
                sender.send(devices[2].name)
            if number == 100:
                devices[0].publish(devices[0].topic(devices[2].name), large)
        for sender in devices[:2]:
            sender.flush()
        listeners.start("pub", 2)
        listeners.wait_ready()
        verdict = scene.settle()
        source = devices[0].name.encode()
        letter = back_end.wait_for(DEAD, lambda r: source in (r.header("mqtt.topic") or b""), 60)
        assert (letter.value, letter.header("kalinka.value")) == (None, b"dev1/ActiveMQ.DLQ")
        assert wait_until(lambda: large in kept, 30)
    assert_exact(verdict, sent=600)


def _letters(back_end: BackEnd, run: bytes) -> dict[bytes, tuple[dict[str, bytes], dict[str, str]]]:
    found = {}
    for record in back_end.read(DEAD):
        if run in (record.value or b""):
            had, own = split(record.headers) or ([], {})
            found[record.value or b""] = ({name: value or b"" for name, value in had}, own)
    return found


def _send(destination: str, payload: bytes) -> bytes:
    head = f"SEND\ndestination:/topic/{destination}\nmine:\\c\\n\\\\ \u00e4\npersistent:true\n".encode()
    return b"%bcontent-length:%d\n\n%b\x00" % (head, len(payload), payload)


@contextmanager
def strange(lab: Lab) -> Iterator[Link]:
    """A publisher that speaks STOMP to the first broker, with headers of its own."""
    link = Link(_broker(lab), lambda _: None)
    link.connect()
    yield link
    link.disconnect()


@contextmanager
def dead_queue(lab: Lab, kept: list[bytes]) -> Iterator[None]:
    """Reads the first broker's own dead-letter queue."""
    link = Link(
        _broker(lab), lambda batch: kept.extend(frame.body for frame in (batch if isinstance(batch, list) else ()))
    )
    link.connect()
    link.subscribe("/queue/ActiveMQ.DLQ", "1")
    yield
    link.disconnect()


def _broker(lab: Lab) -> Broker:
    host = lab.layout.addresses[0]
    return Broker(name="dev1", stomp=f"stomp://{host}:{lab.layout.ports.stomp}")


@contextmanager
def limited(lab: Lab, sizes: Mapping[str, int]) -> Iterator[None]:
    """These topics take records of so many bytes only."""
    admin = AdminClient({"bootstrap.servers": lab.layout.bootstrap})
    _set(admin, sizes, AlterConfigOpType.SET)
    try:
        yield
    finally:
        _set(admin, sizes, AlterConfigOpType.DELETE)


def _set(admin: AdminClient, sizes: Mapping[str, int], operation: AlterConfigOpType) -> None:
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            topic,
            incremental_configs=[ConfigEntry(SIZE, str(size), incremental_operation=operation)],
        )
        for topic, size in sizes.items()
    ]
    for answer in admin.incremental_alter_configs(resources).values():
        answer.result()
