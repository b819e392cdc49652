"""The check's own device: what is said where it cannot listen."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from kalinka_jms.checks import arrival, mqtt
from kalinka_jms.config import Broker


def broker(**more: Any) -> Broker:
    return Broker.model_validate({"name": "dev1", "stomp": "stomp://127.0.0.1:61613", **more})


def told(given: Broker) -> str:
    with pytest.raises(mqtt.NotTried) as caught, mqtt.listening(given, ["mqtt/+/mqtt/kalinka-probe/sub"]):
        pass
    return str(arrival.not_tried(given, caught.value))


@pytest.fixture
def closed() -> str:
    """The address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"mqtt://127.0.0.1:{server.getsockname()[1]}"


def test_where_devices_connect() -> None:
    assert mqtt.address(broker()) == "mqtt://127.0.0.1:1883"
    assert mqtt.address(broker(stomp="stomp://[::1]:61613")) == "mqtt://[::1]:1883"
    assert mqtt.address(broker(mqtt="mqtts://h:8883")) == "mqtts://h:8883"


def test_without_the_client_library_it_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    assert told(broker()) == (
        'dev1: note: no device was tried over MQTT: the package paho-mqtt is missing; pip install "kalinka[lab]"'
    )


def test_an_address_that_was_given_has_to_answer(closed: str) -> None:
    assert told(broker(mqtt=closed)) == (
        f"dev1: unreachable: no device was tried over MQTT: cannot connect to {closed}: Connection refused; "
        "start its MQTT connector, or correct mqtt of this broker"
    )


def test_an_address_that_was_guessed_need_not_answer(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "address", lambda _: closed)
    assert told(broker()) == (
        f"dev1: note: no device was tried over MQTT: cannot connect to {closed}: Connection refused; "
        'where devices connect elsewhere add mqtt = "mqtt://host:port"'
    )


def test_a_login_that_mqtt_refuses_is_a_note() -> None:
    assert str(arrival.not_tried(broker(), mqtt.Refused("the login is refused (Not authorized)"))) == (
        "dev1: note: no device was tried over MQTT: the login is refused (Not authorized); "
        "see with a device of your own whether it is found: `kalinka devices --follow`"
    )
