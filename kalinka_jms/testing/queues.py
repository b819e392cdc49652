"""A queue of the fake broker: exclusive consumers, prefetch, cumulative acknowledgement, redelivery in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kalinka_jms.stomp.frames import Frame
from kalinka_jms.testing.wire import Message

FORWARDS = {"mqtt.*.mqtt.*.pub": "kalinka.mqtt.pub", "mqtt.*.sparkcluster.pub": "kalinka.sparkcluster.pub"}
"""The composite topics with `forwardOnly` of the broker template: pattern → queue."""

DEAD_LETTERS = "ActiveMQ.DLQ"
"""The queue where the broker keeps what a consumer refused."""


@dataclass(eq=False, slots=True)
class QueueConsumer:
    """One subscription to a queue. `deliver` hands a frame to its link."""

    link: object
    number: str
    prefetch: int
    exclusive: bool
    deliver: Callable[[Frame], None]
    unacked: dict[str, Message] = field(default_factory=dict)

    def take(self, message: Message, ack: str, redelivered: bool) -> None:
        """Receive one more message, to be acknowledged as `ack`."""
        self.unacked[ack] = message
        more = [("ack", ack), *([("redelivered", "true")] if redelivered else [])]
        self.deliver(message.frame(self.number, *more))


class FakeQueue:
    """What waits in one queue, and who consumes it. The broker's lock is held around every call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Message] = deque()
        self.consumers: list[QueueConsumer] = []
        self._sent_before: set[str] = set()
        self._deliveries = 0

    def __len__(self) -> int:
        """Messages that nobody has acknowledged."""
        return len(self.waiting) + sum(len(consumer.unacked) for consumer in self.consumers)

    def put(self, message: Message) -> None:
        """Append one."""
        self.waiting.append(message)
        self.dispatch()

    def join(self, consumer: QueueConsumer) -> None:
        """A new consumer; with exclusive ones the first in the list is active, the others stand by."""
        self.consumers.append(consumer)
        self.dispatch()

    def leave(self, consumer: QueueConsumer) -> None:
        """Its link is gone: what it did not acknowledge goes to the next one, in order, marked as redelivered."""
        self.consumers.remove(consumer)
        self.waiting.extendleft(reversed(consumer.unacked.values()))
        consumer.unacked.clear()
        self.dispatch()

    def acknowledge(self, consumer: QueueConsumer, ack: str) -> None:
        """Everything up to `ack` is done: STOMP's `ack:client` is cumulative."""
        for id in list(consumer.unacked):
            message = consumer.unacked.pop(id)
            self._sent_before.discard(message.id)
            if id == ack:
                break
        self.dispatch()

    def reject(self, consumer: QueueConsumer, ack: str) -> Message:
        """Take one message away from a consumer that refuses it; the others stay (seen on 6.3.1)."""
        message = consumer.unacked.pop(ack)
        self.dispatch()
        return message

    def dispatch(self) -> None:
        """Hand out what waits, as far as the prefetches of those who may have it reach."""
        while self.waiting and (consumer := self._next()) is not None:
            message = self.waiting.popleft()
            self._deliveries += 1
            redelivered = message.id in self._sent_before
            self._sent_before.add(message.id)
            consumer.take(message, f"ID:{self.name}:{self._deliveries}", redelivered)

    def _next(self) -> QueueConsumer | None:
        exclusive = [consumer for consumer in self.consumers if consumer.exclusive]
        able = [c for c in exclusive[:1] or self.consumers if len(c.unacked) < c.prefetch]
        return min(able, key=lambda consumer: len(consumer.unacked), default=None)
