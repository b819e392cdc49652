"""From Kafka's record to what is sent, and back from the parked topic."""

from __future__ import annotations

from typing import Any

import pytest
from downlink import MQTT, SPARK, record

from kalinka_jms.config.settings import DEFAULT_DOWN, Sub
from kalinka_jms.errors import RecordError
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.items import Items
from kalinka_jms.sub.parked import parked_key

ITEMS = Items(Downlinks(DEFAULT_DOWN, ("0",)), Sub())


def test_a_record_of_a_device_goes_to_its_topic() -> None:
    item = ITEMS.fresh(record(7, "d1", b"\x00x", headers=[("kalinka.source", b"s"), ("kalinka.id", b"i")]))
    assert (item.way.destination, item.way.stream, item.mark) == (
        "mqtt.s.mqtt.d1.sub",
        ("d1", f"{MQTT},s"),
        ("d1", f"{MQTT},s", "i", 0, 1),
    )
    assert item.payload == b"\x00x" and item.parked is None
    assert ITEMS.destination(*item.way.stream) == item.way.destination


def test_a_plain_record_has_the_default_source_and_its_place_as_id() -> None:
    item = ITEMS.fresh(record(7, "d1", partition=3))
    assert item.mark == ("d1", f"{MQTT},kafka", f"{MQTT}/3/7", 0, 1)


@pytest.mark.parametrize("source", [b"a/b", b"", b"a,b", b"\x00"])
def test_a_source_that_the_destination_does_not_have_may_be_anything(source: bytes) -> None:
    """It is neither looked at nor part of the stream's name, or it could not be parked."""
    item = ITEMS.fresh(record(7, "d1", topic=SPARK, headers=[("kalinka.source", source)]))
    assert item.way.stream == ("d1", f"{SPARK},") and parked_key(*item.mark[:3])
    assert ITEMS.destination(*item.way.stream) == item.way.destination == "sparkcluster.mqtt.d1.sub"


@pytest.mark.parametrize("source", [b"a/b", b"", b"a,b", b"\x00"])
def test_one_that_it_has_is_looked_at(source: bytes) -> None:
    with pytest.raises(RecordError):
        ITEMS.fresh(record(7, "d1", headers=[("kalinka.source", source)]))


class Unreadable:
    """A record with a header's name that is not UTF-8, as confluent-kafka shows it."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    def headers(self) -> Any:
        return b"\xff".decode()


def test_headers_that_cannot_be_read_are_the_record_s_own_fault() -> None:
    with pytest.raises(RecordError, match="headers that cannot be read"):
        ITEMS.fresh(Unreadable(record(7)))


def test_a_parked_record_is_what_its_key_says() -> None:
    """Somebody else may have written it, without the header of its id."""
    name = f"{MQTT},s"
    message = record(9, parked_key("d1", name, "i"), b"x", "0.parked", headers=[("kalinka.source", b"s")])
    item = ITEMS.parked(message, "d1", name, "i")
    assert (item.mark, item.parked, item.way.destination) == (("d1", name, "i", 0, 1), 9, "mqtt.s.mqtt.d1.sub")


def test_a_stream_without_a_route_is_dead() -> None:
    for name in ("gone.topic,s", ","):
        with pytest.raises(RecordError):
            ITEMS.parked(record(9, parked_key("d1", name, "i"), b"x", "0.parked"), "d1", name, "i")
        with pytest.raises(RecordError):
            ITEMS.destination("d1", name)
