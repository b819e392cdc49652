"""A link to a fake broker, with the interface and the threads of `kalinka_jms.stomp.link.Link`."""

from __future__ import annotations

import queue
import threading
import uuid

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost, LinkRefused
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import DISCONNECT_TIMEOUT, Sink
from kalinka_jms.testing.broker import FakeBroker
from kalinka_jms.testing.wire import cut


class FakeLink:
    """One connection to a `FakeBroker`; see `kalinka_jms.stomp.link.Link`, which it stands in for."""

    def __init__(self, broker: Broker, sink: Sink, server: FakeBroker) -> None:
        self.broker = broker
        self.identity = uuid.uuid4().hex
        self.session = ""
        self.server = server
        self._sink = sink
        self._reason = ""
        self._by_broker = False
        self._running = False
        self._inbox: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()  # None: the end
        self._reader = threading.Thread(target=self._read, name=f"link-{broker.name}", daemon=True)

    def connect(self) -> None:
        """Connect and log in. Raises LinkRefused if the broker says no, LinkLost if it is down."""
        if not self.server.up:
            raise LinkLost(f"{self.broker.name}: cannot connect to {self.broker.stomp}: the fake broker is down")
        self._running = True
        self._reader.start()
        if self.server.refusal is not None:
            self.drop(f"the broker reported an error: {self.server.refusal}")
            raise LinkRefused(f"{self.broker.name}: {self._reason}")
        self.session = self.server.connection_id()
        self.server.open(self)

    def subscribe(
        self, destination: str, number: str, ack: str = "auto", headers: dict[str, str] | None = None
    ) -> None:
        """Send SUBSCRIBE. Raises LinkLost."""
        self._check()
        self.server.subscribe(self, destination, number, {"ack": ack, **(headers or {})})

    def write(self, data: bytes) -> None:
        """Send whole frames. Raises LinkLost."""
        self._check()
        self.server.read(self, list(cut(data)))

    def heard(self) -> None:
        """There are no heart-beats to count."""

    def disconnect(self) -> None:
        """Leave in order."""
        self._end("disconnected")
        self.server.close(self)
        self._join()

    def drop(self, reason: str) -> None:
        """End at once: what was received and not yet handed on is discarded."""
        self._running = False
        self._end(reason)
        self.server.close(self)

    def hand(self, frame: Frame) -> None:
        """From the broker: a MESSAGE frame."""
        self._inbox.put(frame)

    def end(self, reason: str) -> None:
        """From the broker: it closed the connection."""
        self._by_broker = not self._reason
        self._end(reason)
        self.server.close(self)

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._inbox.put(None)

    def _check(self) -> None:
        if not self.session or self._reason:
            raise LinkLost(f"{self.broker.name}: {self._reason or 'not connected'}")

    def _read(self) -> None:
        cause = None
        try:
            while (batch := self._batch()) is not None:
                self._sink(batch)
        except Exception as error:  # as the real link does: an exception of the sink ends it
            cause = error
            self.drop(f"the reader failed: {error!r}")
        lost = LinkLost(f"{self.broker.name}: {self._reason}")
        lost.__cause__ = cause
        lost.by_broker = self._by_broker
        self._sink(lost)

    def _batch(self) -> list[Frame] | None:
        """Wait for frames and return all that are there; None at the end."""
        frames = [self._inbox.get()]
        while frames[-1] is not None and not self._inbox.empty():
            frames.append(self._inbox.get())
        if frames[-1] is None:
            self._inbox.put(None)
        batch = [frame for frame in frames if frame is not None]
        return batch if batch and self._running else None

    def _join(self) -> None:
        if self._reader.ident is not None and self._reader is not threading.current_thread():
            self._reader.join(DISCONNECT_TIMEOUT)


class FakeBrokers:
    """Fake brokers by name; called like the class `Link`, it makes links to them.

    `monkeypatch.setattr("kalinka_jms.pub.session.Link", brokers)` puts a pipeline upon fakes.
    """

    def __init__(self, *names: str) -> None:
        self.brokers = {name: FakeBroker(name) for name in names}
        self.links: list[FakeLink] = []
        """Every link that was ever made, in order."""

    def __getitem__(self, name: str) -> FakeBroker:
        return self.brokers[name]

    def __call__(self, broker: Broker, sink: Sink) -> FakeLink:
        self.links.append(FakeLink(broker, sink, self.brokers[broker.name]))
        return self.links[-1]
