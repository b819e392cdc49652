"""An ActiveMQ broker in memory: as much of one as the pipelines can tell apart from a real one.

Topics with wildcards, NoConsumer and consumer advisories, composite subscriptions whose parts keep their common order,
STOMP transactions, queues with exclusive consumers and NACK. It does what was seen on ActiveMQ Classic 6.3.1.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from kalinka_jms.stomp.frames import Frame
from kalinka_jms.testing.device import Consumer, FakeDevice
from kalinka_jms.testing.queues import DEAD_LETTERS, FORWARDS, FakeQueue, QueueConsumer
from kalinka_jms.testing.wire import Message, any_overlap, properties

_CONSUMER, _NO_CONSUMER = "ActiveMQ.Advisory.Consumer.Topic.", "ActiveMQ.Advisory.NoConsumer.Topic."


class Client(Protocol):
    """What the broker knows of a link."""

    session: str

    def hand(self, frame: Frame) -> None:
        """Give it a MESSAGE frame. Must not block."""

    def end(self, reason: str) -> None:
        """Close the connection from the broker's side. Must not block."""


@dataclass(eq=False, slots=True)
class _Session:
    """One link's state in the broker."""

    client: Client
    topics: dict[str, tuple[str, ...]] = field(default_factory=dict)  # subscription → patterns
    queues: list[tuple[FakeQueue, QueueConsumer]] = field(default_factory=list)
    transactions: dict[str, list[Frame]] = field(default_factory=dict)
    closed: bool = False


class FakeBroker:
    """One broker. All of it happens under one lock; what links receive comes on their own threads.

    `tear_after`: the next COMMIT applies that many sends, then the link is lost (a broker that dies in a transaction).
    `refusal`: what it answers to CONNECT, if it refuses. Both are for tests to set.
    """

    def __init__(self, name: str = "dev1") -> None:
        self.name = name
        self.lock = threading.RLock()
        self.devices: list[FakeDevice] = []
        self.queues: dict[str, FakeQueue] = {queue: FakeQueue(queue) for queue in FORWARDS.values()}
        self.sent: list[Message] = []
        """Every message a link sent, in order, echoes included."""
        self.tear_after: int | None = None
        self.refusal: str | None = None
        self.up = True
        self._sessions: dict[Client, _Session] = {}
        self._stalled: list[Callable[[], None]] | None = None  # what links asked for since `freeze`
        self._ids = itertools.count(1)
        self._news = threading.Condition(self.lock)

    def device(self, name: str, *filters: str, clean: bool = True) -> FakeDevice:
        """A new device that listens to these MQTT filters; without any, to the two of the default routes."""
        with self.lock:
            device = FakeDevice(self, name, clean)
            for topic_filter in filters or (f"mqtt/+/mqtt/{name}/sub", f"sparkcluster/mqtt/{name}/sub"):
                device.subscribe(topic_filter)
            return device

    def wait(self, condition: Callable[[], bool], timeout: float = 10.0) -> bool:
        """Wait until `condition` holds (looked at after every change in the broker); return whether it does."""
        with self._news:
            return self._news.wait_for(condition, timeout)

    def freeze(self) -> None:
        """Read nothing more of what links send, and do not notice when one leaves; devices go on."""
        with self.lock:
            self._stalled = [] if self._stalled is None else self._stalled

    def thaw(self) -> None:
        """Read on: what links sent meanwhile happens now, even if they have left since."""
        with self.lock:
            stalled, self._stalled = self._stalled or [], None
            for action in stalled:
                action()
            self.changed()

    def crash(self) -> None:
        """Die: every link and device is gone, queues keep what was persistent. `restart` brings it back."""
        with self.lock:
            self.up, self._stalled = False, None
            for session in list(self._sessions.values()):
                session.client.end("the broker closed the connection")
            for device in self.devices:
                device.lose_connection()
            self.devices = [device for device in self.devices if not device.clean]
            for queue in self.queues.values():
                queue.waiting = type(queue.waiting)(message for message in queue.waiting if message.persistent)
            self.changed()

    def restart(self) -> None:
        """Take connections again."""
        with self.lock:
            self.up = True
            self.changed()

    # -- for links

    def open(self, client: Client) -> None:
        """A link logged in."""
        with self.lock:
            self._sessions[client] = _Session(client)
            self.changed()

    def close(self, client: Client) -> None:
        """A link is gone: un-acknowledged messages go to the next consumer, open transactions are forgotten."""
        with self.lock:
            if client in self._sessions:
                self._when_awake(partial(self._forget, self._sessions.pop(client)))

    def subscribe(self, client: Client, destination: str, number: str, headers: dict[str, str]) -> None:
        """SUBSCRIBE, to one destination or several with commas between; replays consumer advisories."""
        with self.lock:
            if (session := self._sessions.get(client)) is not None:
                self._when_awake(partial(self._subscribe, session, destination.split(","), number, headers))

    def read(self, client: Client, frames: list[Frame]) -> None:
        """Frames that a link wrote."""
        with self.lock:
            if (session := self._sessions.get(client)) is not None:
                for frame in frames:
                    self._when_awake(partial(self._execute, session, frame))

    # -- for devices

    def connection_id(self) -> str:
        """A new connection's id; the numbers count up, as ActiveMQ's do."""
        return f"ID:{self.name}-4:{next(self._ids)}"

    def message_id(self, connection: str) -> str:
        """A new message's id."""
        return f"{connection}:-1:1:{next(self._ids)}"

    def consumer_begun(self, device: FakeDevice, consumer: Consumer) -> None:
        """A device listens."""
        if device not in self.devices:
            self.devices.append(device)
        self._advise(consumer.filter, consumer.begun())
        self.changed()

    def consumer_ended(self, device: FakeDevice, consumer: Consumer) -> None:
        """A device does not listen any more; a persistent session still counts as a subscriber."""
        if device.clean and device in self.devices and not device.connected:
            self.devices.remove(device)
        self._advise(consumer.filter, consumer.ended())
        self.changed()

    def changed(self) -> None:
        """Wake those who `wait`."""
        with self._news:
            self._news.notify_all()

    def publish(self, message: Message) -> None:
        """Bring a message to everybody who listens; tell if nobody does."""
        with self.lock:
            name = message.destination.removeprefix("/topic/")
            forwards = [queue for pattern, queue in FORWARDS.items() if any_overlap([pattern], name)]
            for queue in forwards:
                headers = (*message.headers, ("original-destination", message.destination))
                self._enqueue(queue, Message(f"/queue/{queue}", message.id, headers, message.body, message.persistent))
            if not forwards and not self._deliver(message, name) and self._reports(message, name):
                report_name = f"{_NO_CONSUMER}{name}"
                headers = (*message.headers, ("original-destination", message.destination))
                self._deliver(Message(f"/topic/{report_name}", message.id, headers, message.body), report_name)
            self.changed()

    # -- inside

    def _when_awake(self, action: Callable[[], None]) -> None:
        if self._stalled is None:
            action()
            self.changed()
        else:
            self._stalled.append(action)

    def _subscribe(self, session: _Session, parts: list[str], number: str, headers: dict[str, str]) -> None:
        if parts[0].startswith("/queue/"):
            for part in parts:
                self._join(session, part.removeprefix("/queue/"), number, headers)
        else:
            session.topics[number] = tuple(part.removeprefix("/topic/") for part in parts)
            self._replay(session, number)

    def _execute(self, session: _Session, frame: Frame) -> None:
        if session.closed:
            return
        transaction = frame.header("transaction")
        match frame.command:
            case b"SEND" if transaction is not None:
                session.transactions[transaction].append(frame)
            case b"SEND":
                self._send(session, frame)
            case b"BEGIN":
                session.transactions[transaction or ""] = []
            case b"COMMIT":
                self._commit(session, session.transactions.pop(transaction or ""))
            case b"ABORT":
                del session.transactions[transaction or ""]
            case b"UNSUBSCRIBE":
                session.topics.pop(frame.header("id") or "", None)
            case b"ACK" | b"NACK":
                self._settle(session, frame.header("id") or "", frame.command)
            case command:
                session.client.end(f"the broker reported an error: Unknown STOMP action: {command.decode()}")

    def _commit(self, session: _Session, frames: list[Frame]) -> None:
        torn, self.tear_after = self.tear_after, None
        for frame in frames[:torn]:
            self._send(session, frame)
        if torn is not None:
            session.client.end("the broker closed the connection")

    def _send(self, session: _Session, frame: Frame) -> None:
        destination, persistent = frame.header("destination") or "", frame.raw("persistent") == b"true"
        id = self.message_id(session.client.session)
        message = Message(destination, id, properties(frame), frame.body, persistent)
        self.sent.append(message)
        if destination.startswith("/queue/"):
            self._enqueue(destination.removeprefix("/queue/"), message)
        else:
            self.publish(message)

    def _enqueue(self, queue: str, message: Message) -> None:
        self.queues.setdefault(queue, FakeQueue(queue)).put(message)

    def _deliver(self, message: Message, name: str) -> int:
        """Hand a message to whoever listens to the topic; return how many that were."""
        listeners = [device for device in self.devices if device.listens(name)]
        for device in listeners:
            device.receive(message)
        matching = [
            (session, number)
            for session in self._sessions.values()
            for number, patterns in session.topics.items()
            if any_overlap(patterns, name)
        ]
        for session, number in matching:
            session.client.hand(message.frame(number))
        return len(listeners) + len(matching)

    def _reports(self, message: Message, name: str) -> bool:
        """`sendAdvisoryIfNoConsumers`: of non-persistent messages only, and never of advisories or echoes."""
        return not message.persistent and not name.startswith(("ActiveMQ.Advisory.", "kalinka."))

    def _advise(self, filter: str, body: object) -> None:
        name = f"{_CONSUMER}{filter}"
        self._deliver(self._advisory(name, body), name)

    def _advisory(self, name: str, body: object) -> Message:
        text = json.dumps(body, separators=(",", ":")).encode()
        return Message(f"/topic/{name}", self.message_id(f"ID:{self.name}-1:1"), (), text)

    def _replay(self, session: _Session, number: str) -> None:
        for consumer in (consumer for device in self.devices for consumer in device.consumers):
            name = f"{_CONSUMER}{consumer.filter}"
            if any_overlap(session.topics[number], name):
                session.client.hand(self._advisory(name, consumer.begun()).frame(number))

    def _join(self, session: _Session, name: str, number: str, headers: dict[str, str]) -> None:
        prefetch = int(headers.get("activemq.prefetchSize", 1000))  # ActiveMQ's default for queues
        exclusive = headers.get("activemq.exclusive") == "true"
        queue = self.queues.setdefault(name, FakeQueue(name))
        consumer = QueueConsumer(session.client, number, prefetch, exclusive, session.client.hand)
        session.queues.append((queue, consumer))
        queue.join(consumer)

    def _settle(self, session: _Session, ack: str, command: bytes) -> None:
        queue, consumer = next((pair for pair in session.queues if ack in pair[1].unacked), (None, None))
        if queue is None or consumer is None:
            session.client.end(f"the broker reported an error: Unexpected {command.decode()} for message-id [{ack}]")
        elif command == b"ACK":
            queue.acknowledge(consumer, ack)
        else:
            self._enqueue(DEAD_LETTERS, queue.reject(consumer, ack))

    def _forget(self, session: _Session) -> None:
        session.closed = True
        for queue, consumer in session.queues:
            queue.leave(consumer)
        session.queues.clear()
        session.topics.clear()
