"""Whether a broker refuses what is larger than Kafka takes: asked by the announcement of a message alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kalinka_jms.checks import frames, mqtt
from kalinka_jms.config import Broker
from kalinka_jms.dead import MARGIN, largest_frame

CONNACK, REFUSED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"


@contextmanager
def mqtt_broker(answer: bytes, closes: bool) -> Iterator[tuple[Broker, bytearray]]:
    """A broker that answers CONNECT so, and then ends the connection or waits for the rest."""
    heard = bytearray()
    over = threading.Event()

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            heard.extend(peer.recv(1000))
            peer.sendall(answer)
            heard.extend(peer.recv(1000))
            if not closes:
                over.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        yield Broker(name="dev1", stomp="stomp://127.0.0.1:1", mqtt=f"mqtt://127.0.0.1:{port}", login="kalinka"), heard
        over.set()
        thread.join()


def test_a_broker_that_ends_the_connection_refuses_it() -> None:
    with mqtt_broker(CONNACK, closes=True) as (broker, heard):
        assert frames.refuses(broker, 1_000_000)
    assert heard.startswith(b"\x10") and b"\x00\x04MQTT\x04\x82" in heard and b"\x00\x07kalinka" in heard
    assert heard.endswith(b"\x32\xc0\x84\x3d"), "a PUBLISH of 1,000,000 bytes, of which none comes"


def test_a_broker_that_waits_for_the_message_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ANSWER", 0.2)
    with mqtt_broker(CONNACK, closes=False) as (broker, _):
        assert not frames.refuses(broker, 1_000_000)


def test_a_login_that_is_refused_says_nothing() -> None:
    with mqtt_broker(REFUSED, closes=True) as (broker, _), pytest.raises(mqtt.Refused):
        frames.refuses(broker, 1_000_000)


@pytest.mark.parametrize("limit", [1_000, 300_000, 1_048_588, 10_485_760])
def test_a_letter_fits_with_a_margin_wherever_there_is_room_for_one(limit: int) -> None:
    assert largest_frame(limit) <= limit // 2 or largest_frame(limit) == limit - MARGIN
