"""Messages on their way into Kafka, and what becomes of those that Kafka does not take."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError as KafkaCode
from confluent_kafka import KafkaException

from kalinka_jms.config import Settings
from kalinka_jms.dead import dead_letter
from kalinka_jms.errors import KafkaError, RecordError
from kalinka_jms.kafka import OWN_FAULT, producer
from kalinka_jms.pub.account import Account
from kalinka_jms.pub.kinds import Kinds
from kalinka_jms.pub.sender import VerifiedUplinks
from kalinka_jms.pub.window import NACK, Pending, Window
from kalinka_jms.records import KALINKA_ID, MQTT_TOPIC, Record, record_id
from kalinka_jms.routes import Uplinks
from kalinka_jms.stomp.frames import Frame

log = logging.getLogger("kalinka.pub")

ANSWER = 5.0
"""Seconds that Kafka has to answer when it is asked whether it is there, and librdkafka to let go of records."""

_MISSING = (KafkaCode.UNKNOWN_TOPIC_OR_PART, KafkaCode._UNKNOWN_TOPIC)
_SHARED = OWN_FAULT | {KafkaCode._INVALID_DIFFERENT_RECORD}


class ProducerFailed(KafkaError):
    """A record failed for a reason that is not its own. What comes behind it may have been written: nothing of this
    producer may be used any more, or the order is lost."""


class BatchRefused(ProducerFailed):
    """Kafka refused a batch of several records, and nobody can tell which of them it meant: smaller ones are needed."""


class TopicMissing(ProducerFailed):
    """A topic does not exist (yet)."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        super().__init__(f"the Kafka topic {topic} does not exist: waiting for it")


class Outbox:
    """One producer, and how messages of one broker become its records. `batch_size`: bytes of its largest batch."""

    def __init__(
        self,
        broker: str,
        settings: Settings,
        uplinks: Uplinks,
        account: Account,
        batch_size: int,
        windows: Mapping[bytes | None, Window],
    ) -> None:
        """`windows`: those of the queues, by subscription. Raises ConfigError where librdkafka refuses its settings."""
        self._broker = broker
        self._dead = settings.dead
        self._uplinks = uplinks
        self._account = account
        self._windows = windows
        uplink = (VerifiedUplinks(uplinks) if settings.pub.verify_source else uplinks).link_destination
        self._kinds = Kinds(broker, uplink, windows, account.confirmed)
        self._batch_size = batch_size
        self._kafka: Any = producer(settings, **{"batch.size": batch_size})

    def ask(self, needed: str | None) -> None:
        """Raises KafkaError when Kafka does not answer here, or does not have the topic that is needed."""
        topic = needed or self._dead
        try:
            found = self._kafka.list_topics(topic, timeout=ANSWER).topics[topic]
        except KafkaException as error:
            raise KafkaError(f"Kafka does not answer: {error.args[0].str()}") from error
        if needed and not found.partitions:
            raise TopicMissing(topic)

    def carry(self, frames: list[Frame]) -> list[Frame]:
        """Produce; return the messages that librdkafka's own queue has no room for now. Raises ProducerFailed."""
        broker, kind_of, produce = self._broker.encode(), self._kinds.of, self._kafka.produce
        for place, frame in enumerate(frames):
            try:
                kind, id = kind_of(frame)
            except Exception as error:  # whatever it is, one message must not stop the stream
                pending = Pending(frame, self._windows[frame.raw("subscription")])
                if not self._bury(pending, _reason(error)):
                    return frames[place:]
                pending.window.open(pending)
                continue
            pending = Pending(frame, kind.window)
            pending.tally = kind.tally
            headers = [(KALINKA_ID, record_id(broker, id)), *kind.headers]
            try:
                produce(kind.topic, kind.start + frame.body, kind.key, on_delivery=pending, headers=headers)
            except BufferError:
                return frames[place:]
            except KafkaException as error:  # at once: one more record behind it and the order would be lost
                if not self._dispose(pending, error.args[0], kind.topic, alone=True):
                    return frames[place:]
            except Exception as error:
                if not self._bury(pending, _reason(error)):
                    return frames[place:]
            pending.window.open(pending)
        return []

    def judge(self, window: Window) -> None:
        """Decide what becomes of messages whose records have failed. Raises ProducerFailed if that ends the session."""
        failures, window.failures = window.failures, []
        for place, (pending, error, topic) in enumerate(failures):
            alone = self._batch_size == 1 or len(pending.frame.body) >= self._batch_size
            if not self._dispose(pending, error, topic, alone):
                window.failures = failures[place:]
                return

    def poll(self, timeout: float) -> None:
        """Take Kafka's answers, waiting up to `timeout` seconds for one. Raises ProducerFailed."""
        self._serve(self._kafka.poll, timeout)

    def flush(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until everything has its answer. Raises ProducerFailed."""
        self._serve(self._kafka.flush, timeout)

    def close(self) -> None:
        """Give up what has no answer. A record without one would keep the producer, and its threads, for ever."""
        self._kafka.purge()
        with contextlib.suppress(ProducerFailed):
            self.flush(0)
        with contextlib.suppress(ProducerFailed):  # once more: a fatal error ends the first one early
            self.flush(ANSWER)

    @staticmethod
    def _serve(call: Callable[[float], object], timeout: float) -> None:
        """A fatal error of the producer is raised wherever answers are taken, at times as a SystemError (tried)."""
        try:
            call(timeout)
        except KafkaException as error:
            raise ProducerFailed(f"the producer failed: {error.args[0].str()}") from error
        except SystemError as error:
            raise ProducerFailed(f"the producer failed: {error}") from error

    def _dispose(self, pending: Pending, error: Any, topic: str, alone: bool) -> bool:
        """Keep one message that Kafka refuses for its own fault; False when there is no room for that now.

        `alone`: nothing else can be meant. Raises ProducerFailed where the fault is not its own.
        """
        text = error.str()
        if error.code() in _MISSING:
            raise TopicMissing(topic)
        if error.code() not in _SHARED:
            raise ProducerFailed(f"cannot write to {topic}: {text}")
        if not alone:
            raise BatchRefused(f"a batch of {self._batch_size} bytes is refused by {topic}: {text}")
        if topic != self._dead:
            return self._bury(pending, f"Kafka refused it: {text}")
        return self._give_back(pending, text)

    def _bury(self, pending: Pending, reason: str) -> bool:
        """Send a message to the dead-letter topic, byte for byte; False when there is no room for that now."""
        pending.tally = self._account.dead[self._route(pending)]
        topic, key, value, headers = self._dead_letter(pending, reason)
        try:
            self._kafka.produce(topic, value, key, on_delivery=pending, headers=headers)
        except BufferError:
            return False
        except KafkaException as error:
            return self._dispose(pending, error.args[0], topic, alone=True)
        log.warning("dead letter", extra={"reason": reason} | self._names(pending))
        return True

    def _give_back(self, pending: Pending, reason: str) -> bool:
        """Nothing in Kafka takes it: when its turn comes the broker moves it to its own dead-letter queue, and a letter
        without its payload says so. False when there is no room for that now."""
        pending.tally = self._account.refused[self._route(pending)]
        reason = f"{self._dead} does not take its {len(pending.frame.body)} bytes: {reason}"
        topic, key, value, headers = self._dead_letter(pending, reason, f"{self._broker}/ActiveMQ.DLQ")
        try:
            self._kafka.produce(topic, value, key, on_delivery=partial(_given_back, pending), headers=headers)
        except BufferError:
            return False
        except KafkaException as error:
            _given_back(pending, error.args[0], None)
        text = "not even the dead-letter topic takes a message: the broker keeps it in ActiveMQ.DLQ"
        log.error(text, extra={"reason": reason, "queue": pending.window.queue} | self._names(pending))
        return True

    def _dead_letter(self, pending: Pending, reason: str, elsewhere: str = "") -> Record:
        queue = pending.window.queue
        return dead_letter(pending.frame, self._broker, queue, reason, self._dead, time.time(), elsewhere=elsewhere)

    def _route(self, pending: Pending) -> str:
        """The route that takes a message; empty where there is none."""
        try:
            return self._uplinks.link_destination(pending.frame).route
        except RecordError:
            return ""

    def _names(self, pending: Pending) -> dict[str, Any]:
        """The fields of a log record about one message."""
        headers = dict(self._dead_letter(pending, "")[3])
        fields: dict[str, Any] = {name: headers[name] for name in (KALINKA_ID, MQTT_TOPIC) if name in headers}
        with contextlib.suppress(RecordError):
            fields["device"] = self._uplinks.link_destination(pending.frame).device
        return fields | {"broker": self._broker}


def _given_back(pending: Pending, error: Any, message: Any) -> None:
    """Kafka's answer to the letter without the payload; where it does not take that either, the log has to do."""
    if error is None or error.code() in _SHARED:
        pending.verdict = NACK
    else:
        pending(error, message)


def _reason(error: Exception) -> str:
    """The reason that is kept with a message that cannot be mapped."""
    if isinstance(error, RecordError):
        return str(error)
    log.exception("a message could not be mapped by a fault of Kalinka")
    return f"a fault of Kalinka: {error!r}"
