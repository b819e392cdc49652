"""An uplink upon fakes: brokers, Kafka, instances of `kalinka pub`, and an auditor of every acknowledgement."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

from confluent_kafka import Message

from kalinka_jms.config import Broker, Settings
from kalinka_jms.config.settings import Pub as PubSettings
from kalinka_jms.config.settings import Zookeeper
from kalinka_jms.metrics.identity import Scrape, gathered, summed
from kalinka_jms.metrics.metric import Metric
from kalinka_jms.pub import outbox, pub, session
from kalinka_jms.pub.pub import BrokerPub, Pub
from kalinka_jms.testing import FakeBroker, FakeBrokers, FakeKafka
from kalinka_jms.testing.queues import DEAD_LETTERS, FakeQueue, QueueConsumer

UP, BACK_END, DEAD = "0.mqtt.mqtt", "0.mqtt.sparkcluster", "kalinka.dead"
QUEUE = "kalinka.mqtt.pub"
PATIENCE = 20.0


class Uplink:
    """One broker, one Kafka. Waiting and retrying take no time; what a test does not want it patches back."""

    def __init__(self, **settings: Any) -> None:
        self.brokers = FakeBrokers("dev1")
        self.broker: FakeBroker = self.brokers["dev1"]
        self.kafka = FakeKafka(partitions=1)
        self.settings = Settings(
            brokers=(Broker(name="dev1", stomp="stomp://127.0.0.1:61613"),),
            kafka={"bootstrap.servers": "127.0.0.1:9092"},
            zookeeper=Zookeeper(hosts="127.0.0.1:2181"),
            pub=PubSettings(**settings),
        )
        self.batch_sizes: list[int] = []
        """What each producer was made with."""
        self.early: list[str] = []
        """Ids that were acknowledged before Kafka had confirmed them: must stay empty."""
        self.instances: list[Pub] = []
        self.device = self.broker.device("beast")
        self._sent = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.patch(session, "Link", self.brokers)
        self.patch(outbox, "producer", self._producer)
        self.patch(session, "IDLE", 0.01)
        self.patch(pub, "RETRY_FIRST", 0.0)
        self.patch(pub, "RETRY_MOST", 0.01)
        self.patch(pub, "RETRY_FAILED", 0.01)
        acknowledge = FakeQueue.acknowledge
        self.patch(FakeQueue, "acknowledge", lambda *args: self._audit(acknowledge, *args))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def patch(self, target: object, name: str, value: object) -> None:
        self._stack.enter_context(patch.object(target, name, value))

    def start(self, preferred: Callable[[str], bool] = lambda _: True) -> BrokerPub:
        """One more instance; it is stopped at the end."""
        instance = Pub(self.settings, preferred)
        self._stack.callback(self._leave, instance)
        self.instances.append(instance)
        instance.start()
        return instance._brokers[0]

    def publish(self, count: int = 1, to: str = "wolverine", size: int = 0, qos: int = 1) -> list[bytes]:
        """From the device, at QoS 1; every payload is another one."""
        bodies = [b"%06d" % number + b"." * (size - 6) for number in range(self._sent, self._sent + count)]
        self._sent += count
        for body in bodies:
            topic = "mqtt/beast/sparkcluster/pub" if to == "sparkcluster" else f"mqtt/beast/mqtt/{to}/pub"
            self.device.publish(topic, body, qos)
        return bodies

    def values(self, topic: str = UP) -> list[bytes]:
        """What is in a topic, in order."""
        return [record.value() or b"" for record in self.kafka.records(topic)]

    def first(self, topic: str = UP) -> list[bytes]:
        """The first occurrences in a topic, in order."""
        return list(dict.fromkeys(self.values(topic)))

    def letters(self) -> list[dict[str, bytes]]:
        """The headers of all dead letters."""
        return [headers(record) for record in self.kafka.records(DEAD)]

    def given_back(self) -> list[bytes]:
        """What the broker has in its own dead-letter queue."""
        queue = self.broker.queues.get(DEAD_LETTERS)
        return [message.body for message in queue.waiting] if queue else []

    @property
    def waiting(self) -> int:
        """Messages that the broker still has for the uplink."""
        return sum(len(queue) for name, queue in self.broker.queues.items() if name != DEAD_LETTERS)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Looked at again and again, as much of it is not told to anybody."""
        pause = threading.Event()
        for _ in range(int(PATIENCE / 0.005)):
            if condition():
                return
            pause.wait(0.005)
        assert condition()

    def scrapes(self) -> list[Scrape]:
        """What a scrape of each instance shows now."""
        return [gathered(instance.samples()) for instance in self.instances]

    def counted(self, metric: Metric, **labels: str) -> float:
        """A metric of all instances together."""
        return sum(summed(scrape, metric, **labels) for scrape in self.scrapes())

    def finish(self) -> None:
        """Wait until the broker has nothing more for the uplink."""
        self.wait(lambda: not self.waiting)
        assert self.early == []

    def _producer(self, settings: Settings, **overrides: Any) -> Any:
        self.batch_sizes.append(overrides["batch.size"])
        return self.kafka.producer(settings, **overrides)

    def _audit(self, acknowledge: Callable[..., None], queue: FakeQueue, consumer: QueueConsumer, ack: str) -> None:
        before = {message.id for message in consumer.unacked.values()}
        acknowledge(queue, consumer, ack)
        covered = before - {message.id for message in consumer.unacked.values()}
        confirmed = {headers(record)["kalinka.id"] for made in self.kafka.producers for record in made.confirmed}
        self.early += [id for id in covered if f"dev1/{id}".encode() not in confirmed]

    def _leave(self, instance: Pub) -> None:
        self.kafka.release()
        instance.stop()
        instance.join()


def headers(record: Message) -> dict[str, bytes]:
    pairs: Any = record.headers() or ()
    return {name: value or b"" for name, value in pairs}


def run(instance: BrokerPub) -> Callable[[], None]:
    """Begin to stop; returns what waits for the end."""
    instance.stop()

    def left() -> None:
        instance.join(PATIENCE)
        assert not instance._thread.is_alive()

    return left
