"""Messages ⇄ records: payloads unchanged, headers in order, both envelopes, what can never be delivered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kalinka_jms.config.settings import DEFAULT_DOWN, DEFAULT_UP, UpRoute
from kalinka_jms.errors import RecordError
from kalinka_jms.names import FORBIDDEN
from kalinka_jms.records import Command, from_record, to_record
from kalinka_jms.routes import Downlinks, Uplink, Uplinks, refusal
from kalinka_jms.stomp.frames import Frame, escape

ids = st.text(st.characters(codec="utf-8", exclude_characters=FORBIDDEN + "\x00"), min_size=1, max_size=12).filter(
    lambda id: refusal(id) is None
)
REFERENCE = (DEFAULT_UP[0].model_copy(update={"envelope": "reference"}),)


def message(topic: str, body: bytes = b"", **headers: str) -> Frame:
    """A message as ActiveMQ 6.3.1 hands it out from a composite topic's queue."""
    named = {
        "message-id": "ID:host-34567-1700000000000-3:12:-1:1:77",
        "destination": "/queue/kalinka.mqtt.pub",
        "original-destination": "/topic/" + topic,
        "persistent": "true",
        "ActiveMQ.MQTT.QoS": "1",
    }
    named |= {name.replace("_", "."): value for name, value in headers.items()}
    lines = [f"{name}:{escape(value)}" for name, value in named.items() if value != "absent"]
    return Frame("\n".join(["MESSAGE", *lines]).encode(), body)


def link(routes: tuple[UpRoute, ...] = DEFAULT_UP, source: str = "dev1", device: str = "dev2") -> Uplink:
    return Uplinks(routes, ("0",)).link(f"mqtt/{source}/mqtt/{device}/pub")


@given(source=ids, device=ids, body=st.binary())
@example(source="dev1", device="dev2", body=b"")
@example(source="dev1", device="dev2", body=b"\x00")
@example(source="dev1", device="dev2", body=b"\xff\x00\xfe" * 400_000)
@pytest.mark.parametrize("routes", [DEFAULT_UP, REFERENCE])
def test_a_message_crosses_unchanged(routes: tuple[UpRoute, ...], source: str, device: str, body: bytes) -> None:
    frame = message(f"mqtt.{source}.mqtt.{device}.pub", body)
    uplink = Uplinks(routes, ("0",)).link_destination(frame)
    if routes is REFERENCE and len(json.dumps({"srcId": source}, ensure_ascii=False).encode()) > 64:
        with pytest.raises(RecordError, match="does not fit"):
            to_record(frame, uplink, "b1")
        return
    topic, key, value, headers = to_record(frame, uplink, "b1")
    command = from_record(topic, 3, 17, key, value, headers, 1_700_000_000_000, routes[0].envelope)
    assert (command.device, command.source, command.value) == (device, source, body)
    assert (command.topic, command.partition, command.offset) == ("0.mqtt.mqtt", 3, 17)
    assert command.id == "b1/ID:host-34567-1700000000000-3:12:-1:1:77"
    assert (command.hops, command.qos, command.timestamp) == (0, 1, 1_700_000_000_000)
    down = Downlinks(DEFAULT_DOWN, ("0",)).link(topic, command.device, command.source)
    assert down.destination == f"mqtt.{source}.mqtt.{device}.sub"


def test_the_headers_are_few_and_always_in_the_same_order() -> None:
    ordinary = [
        ("kalinka.id", b"b1/ID:host-34567-1700000000000-3:12:-1:1:77"),
        ("kalinka.source", b"dev1"),
        ("mqtt.topic", b"mqtt/dev1/mqtt/dev2/pub"),
    ]
    topic = "mqtt.dev1.mqtt.dev2.pub"
    assert to_record(message(topic), link(), "b1")[3] == ordinary
    rare = message(topic, ActiveMQ_MQTT_QoS="2", ActiveMQ_Retain="true")
    assert to_record(rare, link(), "b1")[3] == [*ordinary, ("mqtt.qos", b"2"), ("mqtt.retained", b"1")]


@pytest.mark.parametrize(
    ("qos", "persistent", "expected"),
    [
        ("0", "true", [("mqtt.qos", b"0")]),
        ("1", "false", []),
        ("2", "true", [("mqtt.qos", b"2")]),
        ("absent", "true", []),
        ("absent", "false", [("mqtt.qos", b"0")]),
        ("absent", "absent", [("mqtt.qos", b"0")]),
        ("7", "true", []),
        ("high", "absent", [("mqtt.qos", b"0")]),
    ],
)
def test_without_a_qos_of_mqtt_persistent_means_one(
    qos: str, persistent: str, expected: list[tuple[str, bytes]]
) -> None:
    frame = message("mqtt.dev1.mqtt.dev2.pub", ActiveMQ_MQTT_QoS=qos, persistent=persistent)
    assert to_record(frame, link(), "b1")[3][3:] == expected


def test_the_reference_envelope_is_64_bytes_of_padded_json() -> None:
    value = to_record(message("mqtt.dev1.mqtt.dev2.pub", b"\x00\xff"), link(REFERENCE), "b1")[2]
    assert value == b'{"srcId": "dev1"}'.ljust(64, b"\x00") + b"\x00\xff"


def test_a_source_that_does_not_fit_into_the_envelope_is_refused() -> None:
    fits = link(REFERENCE, source="x" * 51)
    assert len(to_record(message("t"), fits, "b1")[2]) == 64
    with pytest.raises(RecordError, match="the source does not fit into the 64 bytes of the envelope"):
        to_record(message("t"), link(REFERENCE, source="x" * 52), "b1")


def test_the_envelope_says_the_source_even_where_a_header_does() -> None:
    value = b'{"srcId": "dev1", "more": 1}'.ljust(64, b"\x00") + b"payload"
    command = command_of(value=value, headers=[("kalinka.source", b"dev9")], envelope="reference")
    assert (command.source, command.value) == ("dev1", b"payload")


def command_of(**changes: Any) -> Command:
    fields = {"key": b"dev2", "value": b"v", "headers": None, "timestamp": 0, "envelope": "plain"} | changes
    return from_record("t", 1, 2, **fields)


def test_a_plain_producer_sets_only_key_and_value() -> None:
    command = command_of(value=b"")
    assert (command.device, command.source, command.value) == ("dev2", None, b"")
    assert (command.id, command.hops, command.qos) == ("t/1/2", 0, 1)


def test_headers_of_others_pass_and_the_last_of_the_same_name_counts() -> None:
    headers = [("kalinka.hops", b"1"), ("theirs", None), ("kalinka.hops", b"2"), ("kalinka.id", b"b/\xff")]
    command = command_of(headers=headers)
    assert (command.hops, command.id) == (2, "b/\\xff")


@pytest.mark.parametrize(
    ("header", "route", "expected"), [(None, 2, 2), (None, 0, 0), (b"0", 1, 0), (b"2", 1, 1), (b"2", 2, 2)]
)
def test_the_route_caps_the_qos(header: bytes | None, route: int, expected: int) -> None:
    assert command_of(headers=[("mqtt.qos", header)] if header else None, qos=route).qos == expected


NO_ENVELOPE = 'the envelope does not begin with {"srcId": "..."}'


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": None}, "null value"),
        ({"key": None}, "no key: the key is the device"),
        ({"key": b""}, "device b'': the id is empty"),
        ({"key": b"\xff"}, "device b'\\xff': the id is not UTF-8"),
        ({"key": b"a.b"}, "device b'a.b': the id contains \".\""),
        ({"headers": [("mqtt.qos", b"7")]}, "the header mqtt.qos is b'7': should be 0, 1 or 2"),
        ({"headers": [("mqtt.qos", None)]}, "the header mqtt.qos is None: should be 0, 1 or 2"),
        ({"headers": [("kalinka.hops", b"-1")]}, "the header kalinka.hops is b'-1': should be a number"),
        ({"headers": [("kalinka.source", b"\xff")]}, "the header kalinka.source is not UTF-8"),
        ({"envelope": "reference", "value": b"x" * 63}, "the value is shorter than the 64 bytes of the envelope"),
        ({"envelope": "reference", "value": b"x" * 64}, NO_ENVELOPE),
        ({"envelope": "reference", "value": b"[" * 64}, NO_ENVELOPE),
        (
            {"envelope": "reference", "value": b"[]".ljust(64, b"\0")},
            NO_ENVELOPE,
        ),
        (
            {"envelope": "reference", "value": b'{"srcId": 1}'.ljust(64, b"\0")},
            NO_ENVELOPE,
        ),
    ],
)
def test_records_that_can_never_be_delivered(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        command_of(**changes)
    assert str(caught.value) == reason


@given(
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=100),
    headers=st.none()
    | st.lists(
        st.tuples(
            st.sampled_from(["kalinka.id", "kalinka.source", "kalinka.hops", "mqtt.qos", "x"]),
            st.none() | st.binary(max_size=5),
        )
    ),
    envelope=st.sampled_from(["plain", "reference"]),
)
def test_any_record_is_a_command_or_has_a_reason(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]] | None, envelope: str
) -> None:
    try:
        command = command_of(key=key, value=value, headers=headers, envelope=envelope)
    except RecordError as error:
        assert str(error)
    else:
        assert refusal(command.device) is None
        assert command.qos in (0, 1, 2)
