"""A device: an MQTT client that remembers exactly what the broker acknowledged and what it received."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ssl import SSLContext
from threading import Event, Lock
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from kalinka_jms.errors import LabError
from kalinka_jms.lab.ledger import Ledger
from kalinka_jms.lab.payload import Payload
from kalinka_jms.lab.waiting import wait_until

BACK_END = "sparkcluster"
"""The name of the back end as a destination and as a source."""

IN_FLIGHT = 1000  # messages without a PUBACK; paho's own 20 is slow against a broker that syncs its journal


@dataclass(frozen=True, slots=True)
class MqttBroker:
    """Where devices connect: the broker's name, its MQTT address, and for TLS whom to trust."""

    name: str
    host: str
    port: int = 1883
    tls: SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A message that reached a device; `at` in ns (wall clock)."""

    topic: str
    payload: bytes
    broker: str
    at: int


class Device:
    """One device. It comes back by itself when its connection breaks; `leave` and `join` are its own doing.

    `clean` sessions end with the connection; the broker keeps a session that is not clean. `qos` is that of its
    subscriptions; it publishes at QoS 1. With a password it logs in, as the user of its own name.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        *,
        clean: bool = True,
        qos: int = 1,
        keepalive: int = 30,
        password: str | None = None,
    ) -> None:
        self.name = name
        self.filters = (f"mqtt/+/mqtt/{name}/sub", f"{BACK_END}/mqtt/{name}/sub")
        self.received: list[Received] = []
        self.broker: MqttBroker | None = None
        self._ledger = ledger
        self._clean = clean
        self._qos = qos
        self._keepalive = keepalive
        self._password = password
        self._client: Client | None = None
        self._listening = Event()
        self._unsubscribed = Event()
        self._refused: str | None = None
        self._lock = Lock()
        self._in_flight: dict[int, Payload | None] = {}
        self._early: set[int] = set()  # acknowledged before `publish` returned

    @property
    def listening(self) -> bool:
        """Connected, with both subscriptions acknowledged."""
        return self._listening.is_set()

    def join(self, broker: MqttBroker, timeout: float = 15.0) -> None:
        """Connect to `broker` and subscribe; returns when it listens. Raises LabError when it does not."""
        self.close()  # a client whose broker died would come back beside the new one
        self.broker = broker
        self._client = self._make_client()
        try:
            self._client.connect(broker.host, broker.port, self._keepalive)
        except OSError as error:
            raise LabError(f"{self.name} cannot reach {broker.name} ({broker.host}:{broker.port}): {error}") from error
        self._client.loop_start()
        if not wait_until(lambda: self.listening or self._refused, timeout) or self._refused:
            self.close()
            raise LabError(f"{self.name} cannot listen at {broker.name}: {self._refused or 'no answer'}")

    def leave(self, timeout: float = 15.0) -> None:
        """Go away cleanly: everything published is acknowledged, a clean session has unsubscribed, then DISCONNECT."""
        self.flush(timeout)
        if self._clean:
            self._unsubscribed.clear()
            self._connected().unsubscribe(list(self.filters))
            if not self._unsubscribed.wait(timeout):
                raise LabError(f"{self.name}: no UNSUBACK within {timeout} s")
        self.close()

    def close(self) -> None:
        """DISCONNECT at once, whatever is in flight; nothing where it is not connected."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
        self._client = None
        self._listening.clear()

    def move(self, broker: MqttBroker) -> None:
        """Leave, and join another broker."""
        self.leave()
        self.join(broker)

    def send(self, destination: str, size: int = 0) -> Payload:
        """Publish the next payload of the ledger to a device, or to the back end; does not wait for the PUBACK."""
        self.wait_listening()  # a message given to paho while it reconnects may overtake those it sends again
        return self._send(destination, size)

    def offer(self, destination: str, size: int = 0) -> Payload | None:
        """The same where it listens at this moment; where it does not nothing is sent, and the answer is None."""
        return self._send(destination, size) if self.listening else None

    def _send(self, destination: str, size: int) -> Payload:
        payload = self._ledger.send(self.name, destination, self._at().name, time.time_ns())
        self.publish(self.topic(destination), payload.encode(size), payload)
        return payload

    def publish(self, topic: str, body: bytes, payload: Payload | None = None) -> None:
        """Publish any bytes at QoS 1; `payload` is what the ledger knows them by."""
        mid = self._connected().publish(topic, body, qos=1).mid
        with self._lock:
            if mid not in self._early:
                self._in_flight[mid] = payload
                return
            self._early.remove(mid)
        self._acknowledge(payload)

    def topic(self, destination: str) -> str:
        """The MQTT topic on which this device speaks to `destination`."""
        return (
            f"mqtt/{self.name}/{BACK_END}/pub"
            if destination == BACK_END
            else f"mqtt/{self.name}/mqtt/{destination}/pub"
        )

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until the broker has acknowledged everything published; LabError when it has not in time."""
        if not wait_until(lambda: not self._in_flight, timeout):
            raise LabError(f"{self.name}: {len(self._in_flight)} messages without PUBACK after {timeout} s")

    def wait_listening(self, timeout: float = 60.0) -> None:
        """Wait until it listens (again); LabError when it does not in time."""
        if not self._listening.wait(timeout):
            raise LabError(f"{self.name} does not listen at {self._at().name} after {timeout} s")

    def _at(self) -> MqttBroker:
        if self.broker is None:
            raise LabError(f"{self.name} has not joined a broker")
        return self.broker

    def _connected(self) -> Client:
        if self._client is None:
            raise LabError(f"{self.name} is not connected")
        return self._client

    def _make_client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=self.name, clean_session=self._clean)
        if self._password is not None:
            client.username_pw_set(self.name, self._password)
        if self.broker is not None and self.broker.tls is not None:
            client.tls_set_context(self.broker.tls)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        self._refused = None
        self._in_flight.clear()
        self._early.clear()
        return client

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, *_: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
        else:
            client.subscribe([(topic, self._qos) for topic in self.filters])

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], *_: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = f"SUBACK {', '.join(map(str, reasons))}"
        else:
            self._listening.set()

    def _on_unsubscribe(self, *_: Any) -> None:
        self._unsubscribed.set()

    def _on_disconnect(self, *_: Any) -> None:
        self._listening.clear()

    def _on_publish(self, _client: Client, _data: Any, mid: int, *_: Any) -> None:
        with self._lock:
            if mid not in self._in_flight:
                self._early.add(mid)
                return
            payload = self._in_flight.pop(mid)
        self._acknowledge(payload)

    def _acknowledge(self, payload: Payload | None) -> None:
        if payload is not None:
            self._ledger.acknowledge(payload)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        at, body = time.time_ns(), bytes(message.payload)
        self.received.append(Received(message.topic, body, self._at().name, at))
        self._ledger.arrive(body, self.name, at)
