"""An MQTT client that listens to everything."""

from __future__ import annotations

import uuid
from threading import Event

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from kalinka_jms.errors import LabError
from kalinka_jms.lab.device import MqttBroker


class Eavesdropper:
    """Subscribed to `#` at one broker when it is made. Raises LabError when the broker does not take it."""

    def __init__(self, broker: MqttBroker, topics: str = "#") -> None:
        listening = Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"ear-{uuid.uuid4().hex[:8]}")
        self._client.on_subscribe = lambda *_: listening.set()
        self._client.connect(broker.host, broker.port)
        self._client.subscribe(topics, 0)
        self._client.loop_start()
        if not listening.wait(30):
            raise LabError(f"{broker.name} does not let anybody subscribe to {topics}")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
