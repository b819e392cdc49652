"""An MQTT client that acknowledges only what it is told to."""

from __future__ import annotations

from threading import Event
from types import TracebackType
from typing import Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from kalinka_jms.lab.device import MqttBroker
from kalinka_jms.lab.waiting import wait_until


class Session:
    """A client's session on one broker; as a context manager it is connected and listens.

    `clean=False` is a persistent session: the broker keeps it when the client leaves.
    """

    def __init__(
        self, name: str, broker: MqttBroker, *filters: str, clean: bool = False, willing: bool = False
    ) -> None:
        """Without filters it listens to what the back end sends to the device `name`. `willing` ones acknowledge
        everything at once."""
        self.name = name
        self.got: list[MQTTMessage] = []
        """What came, in order; what comes again counts again."""
        self._broker = broker
        self._filters = filters or (f"sparkcluster/mqtt/{name}/sub",)
        self._listening = Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean, manual_ack=not willing, protocol=4
        )
        self._client.on_connect = lambda *_: self._client.subscribe([(topic, 1) for topic in self._filters])
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_message = lambda _client, _data, message: self.got.append(message)

    @property
    def payloads(self) -> list[bytes]:
        return [bytes(message.payload) for message in self.got]

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        assert self._listening.wait(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.leave()

    def wait_for(self, *payloads: bytes) -> None:
        """Wait until exactly these have come, in this order."""
        assert wait_until(lambda: len(self.got) >= len(payloads), 60), self.payloads
        assert self.payloads == list(payloads)

    def acknowledge(self, *payloads: bytes) -> None:
        """PUBACK for each copy that came of these."""
        for message in self.got:
            if message.payload in payloads:
                self._client.ack(message.mid, message.qos)

    def acknowledge_one(self, payload: bytes) -> None:
        """PUBACK for the first copy of it."""
        message = next(message for message in self.got if message.payload == payload)
        self._client.ack(message.mid, message.qos)

    def end(self) -> None:
        """End a persistent session that was left, by a clean one of the same name."""
        with Session(self.name, self._broker, *self._filters, clean=True):
            pass

    def leave(self) -> None:
        """DISCONNECT."""
        self._client.disconnect()
        self._client.loop_stop()
