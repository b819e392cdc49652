"""`kalinka pub`: the brokers' queues → Kafka.

Every instance subscribes on every broker as an exclusive consumer of equal priority, so that one is active for a queue
and the others stand by. Each broker has a thread that keeps a session with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from kalinka_jms.config import Broker, Settings
from kalinka_jms.errors import ConfigError, KafkaError, LinkError
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.pub.account import Account
from kalinka_jms.pub.figures import samples
from kalinka_jms.pub.outbox import BatchRefused, ProducerFailed, TopicMissing
from kalinka_jms.pub.session import Session
from kalinka_jms.routes import Uplinks

log = logging.getLogger("kalinka.pub")

RETRY_FIRST, RETRY_MOST = 0.2, 2.0
"""Seconds between attempts to begin a session, doubled from the first to the most."""

RETRY_FAILED = 30.0
"""The most where records failed: every attempt repeats what Kafka took beside them."""

LASTING = 10.0
"""Seconds after which a session counts as one that worked."""

BATCH_SIZE = 65_536
"""Bytes of the largest batch of records, unless [kafka] says otherwise. Kafka takes or refuses a batch as a whole: this
is less than any limit that a topic is likely to have, and makes nothing slower at 20,000 messages/s (tried)."""

Preferred = Callable[[str], bool]
"""Whether this instance should be the active one of the named broker."""


class BrokerPub:
    """Keeps a session with one broker: begins it, and another one whenever it ended."""

    def __init__(self, broker: Broker, settings: Settings, preferred: Preferred) -> None:
        self.broker = broker
        self.up = threading.Event()
        """Set while subscribed at the broker."""
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""
        self.account = Account()
        """What came from the broker, and what became of it."""
        self._settings = settings
        self._preferred = preferred
        self._uplinks = Uplinks(settings.routes.up, settings.groups)  # of its own: caches are not shared
        self._batch_size = int(str(settings.kafka.get("batch.size", BATCH_SIZE)))
        self._needed: str | None = None
        self._begun = time.monotonic()
        self._session: Session | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pub-{broker.name}", daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def stop(self) -> None:
        """Begin to drain and leave; `join` waits for the end of it."""
        self._stop.set()

    @property
    def turned(self) -> float:
        """When its thread turned last (seconds, monotonic)."""
        session = self._session
        return self._begun if session is None else max(self._begun, session.turned)

    def _run(self) -> None:
        try:
            self._keep()
        except BaseException as error:
            self.failure = error
            log.exception("the pipeline failed", extra={"broker": self.broker.name})

    def _keep(self) -> None:
        wait, told = RETRY_FIRST, ""
        while not self._stop.is_set():
            begun = self._begun = time.monotonic()
            error = self._once()
            worked = self.up.is_set()
            self.up.clear()
            if error is None:
                wait, told = RETRY_FIRST, ""
                continue
            told = self._tell(error, "" if worked else told)
            most = RETRY_FAILED if worked and isinstance(error, ProducerFailed) else RETRY_MOST
            wait = RETRY_FIRST if time.monotonic() - begun > LASTING else min(wait * 2, most)
            self._learn(error)
            self._stop.wait(wait)

    def _once(self) -> Exception | None:
        """One session from its begin to its end; returns what ended it, if it did not end in order."""
        session = Session(self.broker, self._settings, self._uplinks, self.account, self._batch_size, self._needed)
        self._session = session
        try:
            session.open()
            self._needed = None
            self.up.set()
            log.info("link up", extra={"broker": self.broker.name})
            session.run(self._stop, self._preferred)
            return None
        except (LinkError, KafkaError, ConfigError, ValueError) as error:  # ValueError: an unreadable secret
            return error.with_traceback(None)  # or what holds the error would hold the session and its producer
        finally:
            session.abort()
            self._session, self._begun = None, time.monotonic()

    def _tell(self, error: Exception, told: str) -> str:
        """Log why a session ended or cannot begin, unless that was just told; return what is told now."""
        if str(error) != told:
            what = "link lost" if isinstance(error, LinkError) else "waiting for Kafka"
            log.warning(what, extra={"broker": self.broker.name, "reason": str(error)})
        return str(error)

    def _learn(self, error: Exception) -> None:
        """What the next session should do differently."""
        if isinstance(error, TopicMissing):
            self._needed = error.topic
        elif isinstance(error, BatchRefused):
            self._batch_size = max(1, self._batch_size // 16)
            text = "smaller batches: batch.size in [kafka] should be below the topic's max.message.bytes"
            log.warning(text, extra={"broker": self.broker.name, "batch.size": self._batch_size})


class Pub:
    """The uplink of one instance: a `BrokerPub` for every broker."""

    def __init__(self, settings: Settings, preferred: Preferred = lambda _: True) -> None:
        self._settings = settings
        self._brokers = [BrokerPub(broker, settings, preferred) for broker in settings.brokers]

    def start(self) -> None:
        for broker in self._brokers:
            broker.start()

    def stop(self) -> None:
        """Begin to drain every session; `join` waits for it."""
        for broker in self._brokers:
            broker.stop()

    def join(self) -> None:
        for broker in self._brokers:
            broker.join()

    @property
    def failed(self) -> bool:
        """Whether a thread ended that should not have."""
        return any(broker.failure is not None for broker in self._brokers)

    @property
    def turned(self) -> float:
        """When the slowest of its threads turned last (seconds, monotonic)."""
        return min(broker.turned for broker in self._brokers)

    @property
    def links(self) -> dict[str, bool]:
        """Broker → whether this instance is subscribed there."""
        return {broker.broker.name: broker.up.is_set() for broker in self._brokers}

    def samples(self) -> Iterator[Sample]:
        """The metrics, from any thread."""
        return samples(
            [(one.broker.name, one.up.is_set(), one.account.statement) for one in self._brokers], self._settings
        )
