"""An MQTT client that asks for more than it may have, and notes what it gets."""

from __future__ import annotations

import queue
from threading import Event
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from kalinka_jms.lab.device import MqttBroker

PATIENCE = 30.0


class Intruder:
    """Logged in as `user` (or as nobody), with a client id of its own choice."""

    def __init__(self, broker: MqttBroker, user: str, password: str | None, id: str, clean: bool = True) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.refused = ""
        self._answers: queue.Queue[Any] = queue.Queue()
        self._gone = Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=id, clean_session=clean)
        self._client.tls_set_context(broker.tls)
        if password is not None:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda _c, _d, _f, reason, _p: self._answers.put(reason)
        self._client.on_subscribe = lambda _c, _d, _m, reasons, _p: self._answers.put(reasons[0])
        self._client.on_publish = lambda _c, _d, mid, *_: self._answers.put(mid)
        self._client.on_message = lambda _c, _d, message: self.received.append((message.topic, message.payload))
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        reason = self._answers.get(timeout=PATIENCE)
        self.refused = str(reason) if reason.is_failure else ""

    def subscribe(self, topics: str) -> bool:
        """Whether the broker grants it."""
        self._client.subscribe(topics, 1)
        return not self._answers.get(timeout=PATIENCE).is_failure

    def publish(self, topic: str, body: bytes) -> None:
        """At QoS 1; returns at the PUBACK, which ActiveMQ sends for what it refuses, too."""
        self._client.publish(topic, body, qos=1)
        self._answers.get(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()
