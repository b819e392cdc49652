"""Payloads of any bytes cross unchanged; ids that cannot be are kept as dead, and stop nobody else."""

from __future__ import annotations

import pytest
from scene import DEAD, Scene, assert_exact

from kalinka_jms.lab.backend import BackEnd, ReadRecord
from kalinka_jms.lab.device import BACK_END, Device
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.records import DEFAULT_SOURCE

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("bridge")]

PAYLOADS = {
    "empty": b"",
    "a NUL": b"\x00",
    "NULs inside": b"a\x00\x00b\n\n\x00",
    "not UTF-8": bytes(range(256)),
    "like a frame": b"MESSAGE\ncontent-length:3\n\nabc\x00",
    "a megabyte": bytes(range(256)) * 4096,
}
any_payload = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)

REFUSED = {
    "no key": None,
    "empty": b"",
    "a slash": b"a/b",
    "a dot": b"a.b",
    "a wildcard": b"a*",
    "a number and a dot": b"5.0",
    "a comma": b"a,b",
    "a question mark": b"a?b",
    "a leading blank": b" a",
    "a trailing blank": b"a ",
    "not UTF-8": b"\xff\xfe",
    "the canary": b"kalinka-canary",
    "far too long": b"x" * 9000,
}


@any_payload
def test_any_payload_crosses_from_device_to_device(scene: Scene, payload: bytes) -> None:
    sender, receiver = scene.device("beast", 0), scene.device("wolverine", 2)
    sender.publish(sender.topic(receiver.name), payload)
    assert _received(receiver) == [(f"mqtt/{sender.name}/mqtt/{receiver.name}/sub", payload)]


@any_payload
def test_any_payload_reaches_the_back_end(scene: Scene, payload: bytes) -> None:
    sender, back_end = scene.device("beast", 0), scene.back_end()
    sender.publish(sender.topic(BACK_END), payload)
    record = back_end.wait_for("0.mqtt.sparkcluster", lambda record: record.key == sender.name.encode())
    assert record.value == payload


@any_payload
def test_any_payload_reaches_a_device(scene: Scene, payload: bytes) -> None:
    receiver, back_end = scene.device("beast", 1), scene.back_end()
    back_end.produce("0.sparkcluster.mqtt", receiver.name.encode(), payload)
    assert _received(receiver) == [(f"{BACK_END}/mqtt/{receiver.name}/sub", payload)]


@pytest.mark.parametrize("key", REFUSED.values(), ids=REFUSED)
def test_a_record_for_an_id_that_cannot_be_is_kept_as_dead(scene: Scene, key: bytes | None) -> None:
    receiver, back_end = scene.device("beast", 0), scene.back_end()
    value = b"\x00\xff for nobody " + scene.ledger.run.encode()
    back_end.produce("0.sparkcluster.mqtt", key, value, headers=[("mine", b"\xfe")])
    dead = _dead(back_end, value)
    assert (dead.key, dead.value, dead.header("mine")) == (key, value, b"\xfe")
    assert dead.header("kalinka.reason")
    _goes_on(scene, back_end, receiver)


def test_a_record_without_a_value_is_kept_as_dead(scene: Scene) -> None:
    receiver, back_end = scene.device("beast", 0), scene.back_end()
    back_end.produce("0.sparkcluster.mqtt", receiver.name.encode(), None, headers=[("mine", b"1")])
    dead = back_end.wait_for(DEAD, lambda record: record.key == receiver.name.encode())
    assert (dead.value, dead.header("kalinka.reason"), dead.header("mine")) == (None, b"null value", b"1")
    _goes_on(scene, back_end, receiver)


def test_a_record_without_a_source_is_from_the_default_source(scene: Scene) -> None:
    """What a plain producer sets, a key and a value, is enough wherever a device is meant."""
    receiver, back_end = scene.device("beast", 0), scene.back_end()
    back_end.produce("0.mqtt.mqtt", receiver.name.encode(), b"hello")
    assert _received(receiver) == [(f"mqtt/{DEFAULT_SOURCE}/mqtt/{receiver.name}/sub", b"hello")]


@pytest.mark.parametrize("headers", [[("mqtt.qos", b"7")], [("kalinka.hops", b"many")], [("mqtt.qos", b"")]])
def test_a_record_with_a_bad_header_is_kept_as_dead(scene: Scene, headers: list[tuple[str, bytes]]) -> None:
    receiver, back_end = scene.device("beast", 0), scene.back_end()
    value = b"bad header " + scene.ledger.run.encode()
    back_end.produce("0.sparkcluster.mqtt", receiver.name.encode(), value, headers=headers)
    dead = _dead(back_end, value)
    assert dead.headers[:1] == tuple(headers) and dead.header("kalinka.reason")
    _goes_on(scene, back_end, receiver)


@pytest.mark.parametrize("device", ["a.b", " a", "kalinka-canary"])
def test_a_message_for_an_id_that_cannot_be_is_kept_as_dead(scene: Scene, device: str) -> None:
    sender, receiver, back_end = scene.device("beast", 0), scene.device("wolverine", 1), scene.back_end()
    payload = b"\x00\xff for nobody " + scene.ledger.run.encode()
    sender.publish(sender.topic(device), payload)
    assert _dead(back_end, payload).header("kalinka.reason")
    sender.send(receiver.name)
    sender.flush()
    assert_exact(scene.settle(), sent=1)


def test_a_qos_header_of_a_record_is_obeyed_and_never_harms_the_device(scene: Scene) -> None:
    receiver, back_end = scene.device("beast", 0), scene.back_end()
    for qos in (b"0", b"1", b"2"):
        back_end.produce("0.sparkcluster.mqtt", receiver.name.encode(), qos, headers=[("mqtt.qos", qos)])
    assert wait_until(lambda: len(receiver.received) == 3, 30)
    assert [message.payload for message in receiver.received] == [b"0", b"1", b"2"]


def _received(device: Device) -> list[tuple[str, bytes]]:
    wait_until(lambda: device.received, 30)
    return [(message.topic, message.payload) for message in device.received]


def _dead(back_end: BackEnd, value: bytes) -> ReadRecord:
    return back_end.wait_for(DEAD, lambda record: record.value == value)


def _goes_on(scene: Scene, back_end: BackEnd, device: Device) -> None:
    for _ in range(10):
        back_end.send(device.name)
    back_end.flush()
    assert_exact(scene.settle(), sent=10)
