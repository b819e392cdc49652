"""An MQTT client of the fake broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kalinka_jms.testing.wire import Message, any_overlap

if TYPE_CHECKING:
    from kalinka_jms.testing.broker import FakeBroker

_QOS = ("AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE")
_TO_JMS, _TO_MQTT = str.maketrans("/+#", ".*>"), str.maketrans(".*>", "/+#")


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the device saw it, with the properties that ActiveMQ would have used."""

    topic: str
    payload: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Consumer:
    """One subscription as the broker knows it; `id` is (connection, number)."""

    id: tuple[str, int]
    filter: str
    name: str | None

    def begun(self) -> dict[str, object]:
        """The body of the advisory of its beginning."""
        info: dict[str, object] = {"consumerId": self._id(), "destination": {"string": self.filter}}
        if self.name is not None:
            info["subscriptionName"] = self.name
        return {"ConsumerInfo": info}

    def ended(self) -> dict[str, object]:
        """The body of the advisory of its end."""
        return {"RemoveInfo": {"objectId": {"@class": "ConsumerId", **self._id()}}}

    def _id(self) -> dict[str, object]:
        return {"connectionId": self.id[0], "sessionId": -1, "value": self.id[1]}


class FakeDevice:
    """A device on one fake broker. `received` grows as messages reach it; wait for it with `FakeBroker.wait`.

    With `clean=False` its session is persistent: away, it still counts as a subscriber, and what comes waits for it.
    """

    def __init__(self, broker: FakeBroker, name: str, clean: bool = True) -> None:
        self.broker = broker
        self.name = name
        self.clean = clean
        self.received: list[Received] = []
        self.connected = False
        self._waiting: list[Received] = []
        self._filters: dict[str, int] = {}
        self._consumers: list[Consumer] = []
        self.connect()

    def connect(self) -> None:
        """Connect (again). A persistent session has its subscriptions back, and gets what waited."""
        with self.broker.lock:
            if self.connected:
                return
            self.connected = True
            self._connection = self.broker.connection_id()
            self.received += self._waiting
            self._waiting = []
            filters, self._filters = self._filters, {}
            for topic_filter, qos in filters.items():
                self.subscribe(topic_filter, qos)
            self.broker.changed()

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Listen to an MQTT filter, e.g. `mqtt/+/mqtt/dev1/sub`."""
        name = None if self.clean else f"{_QOS[qos]}:{topic_filter}"
        with self.broker.lock:
            id = (self._connection, len(self._consumers) + 1)
            self._filters[topic_filter] = qos
            self._consumers.append(Consumer(id, topic_filter.translate(_TO_JMS), name))
            self.broker.consumer_begun(self, self._consumers[-1])

    def disconnect(self) -> None:
        """Leave; how makes no difference to the broker."""
        with self.broker.lock:
            if not self.connected:
                return
            self.connected = False
            consumers, self._consumers = self._consumers, []
            if self.clean:
                self._filters = {}
            for consumer in consumers:
                self.broker.consumer_ended(self, consumer)

    def lose_connection(self) -> None:
        """Its broker died, and with it whatever waited for it there (a bridge sends nothing persistent)."""
        self.connected = False
        self._consumers, self._waiting = [], []
        if self.clean:
            self._filters = {}

    def publish(self, topic: str, payload: bytes, qos: int = 1, retained: bool = False, user: str = "") -> str:
        """Publish, logged in as `user`; returns the broker's message id."""
        headers = [("ActiveMQ.MQTT.QoS", str(qos)), *([("ActiveMQ.Retain", "true")] if retained else [])]
        headers += [("JMSXUserID", user)] if user else []
        with self.broker.lock:
            id = self.broker.message_id(self._connection)
            destination = f"/topic/{topic.translate(_TO_JMS)}"
            self.broker.publish(Message(destination, id, tuple(headers), payload, persistent=qos > 0))
        return id

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """Its subscriptions, while it is connected."""
        return tuple(self._consumers)

    def listens(self, topic: str) -> bool:
        """Whether the broker counts it as a subscriber of a topic (JMS form)."""
        return any_overlap((topic_filter.translate(_TO_JMS) for topic_filter in self._filters), topic)

    def receive(self, message: Message) -> None:
        """The broker has a message for it."""
        topic = message.destination.removeprefix("/topic/").translate(_TO_MQTT)
        to = self.received if self.connected else self._waiting
        to.append(Received(topic, message.body, dict(message.headers)))
