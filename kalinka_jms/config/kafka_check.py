"""Mistakes in the table [kafka]: settings that Kalinka owns, and what librdkafka itself refuses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from kalinka_jms.config.fields import ConfigValue
from kalinka_jms.config.mistakes import path, value_at
from kalinka_jms.config.secret import Secret
from kalinka_jms.errors import Problem

_COMMITS = "Kalinka commits an offset by hand when the outcome of its record is final"
_ACKS = "always all: a record counts when every in-sync replica has it"
_NO_GAP = "always unlimited: a record that gives up while later ones succeed leaves a gap"
_IN_FLIGHT = "always 1: Kafka may take a second batch after it refused the first, which is lost then (KAFKA-15591)"
_SHARES = "always range: one partition number of every topic has to reach the same instance"
_GROUP = "set sub.consumer_group instead"

OWNED: Mapping[str, str] = {
    "acks": _ACKS,
    "request.required.acks": _ACKS,
    "enable.idempotence": "always true: without it a retry could repeat records or change their order",
    "max.in.flight": _IN_FLIGHT,
    "max.in.flight.requests.per.connection": _IN_FLIGHT,
    "message.timeout.ms": _NO_GAP,
    "delivery.timeout.ms": _NO_GAP,
    "retries": _NO_GAP,
    "message.send.max.retries": _NO_GAP,
    "delivery.report.only.error": "Kalinka acknowledges a message when Kafka reports its record as written",
    "enable.gapless.guarantee": "a single record that Kafka refuses would end the producer, again and again",
    "enable.auto.commit": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "isolation.level": "always read_committed: what a replaced instance wrote must stay invisible",
    "partition.assignment.strategy": _SHARES,
    "group.protocol": _SHARES,
    "group.remote.assignor": _SHARES,
    "group.id": _GROUP,
    "group.instance.id": "any number of processes start from this one file: their ids are made at start",
    "transactional.id": "any number of processes start from this one file: their ids are made at start",
}
"""Settings that the promise rests on, and why they cannot be set."""

USUAL = [
    "bootstrap.servers",
    "broker.address.family",
    "client.id",
    "client.rack",
    "compression.level",
    "compression.type",
    "debug",
    "auto.offset.reset",
    "batch.size",
    "enable.ssl.certificate.verification",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "linger.ms",
    "log_level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.max.age.ms",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "sasl.oauthbearer.method",
    "security.protocol",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
    "transaction.timeout.ms",
]
"""Names to suggest for one that librdkafka does not know."""

_NO_SUCH = "librdkafka has no such setting"
_SENTINEL = "kalinka.end.of.settings"


def problems(table: Mapping[str, ConfigValue]) -> tuple[Problem, ...]:
    """Every mistake in the table."""
    found = [
        Problem(path(("kafka", key)), "" if remedy.startswith(_NO_SUCH) else value_at((key,), value), remedy)
        for key, value in table.items()
        if (remedy := _owned(key) or _refused(key, value) or _absent(key, value))
    ]  # the value of an unknown key is not shown: it may be a secret under a misspelled name
    if not {"bootstrap.servers", "metadata.broker.list"} & set(table):
        found.append(Problem('kafka."bootstrap.servers"', "", 'is missing: should be servers like "kafka1:9092"'))
    return tuple(found)


def _owned(key: str) -> str:
    reason = OWNED.get(key)
    return f"should not be set: {reason}" if reason else ""


def _refused(key: str, value: ConfigValue) -> str:
    """What librdkafka says. It reads settings in order and stops at the first bad one: ours or the one after it."""
    from confluent_kafka import KafkaException, Producer

    try:
        Producer({key: value.read() if isinstance(value, Secret) else value, _SENTINEL: ""})
    except KafkaException as error:
        text = str(error.args[0].str()).strip()
        if _SENTINEL in text:
            return ""
        if isinstance(value, Secret):
            return "librdkafka refuses the value of this secret"
        return _unknown(key) if text.startswith("No such configuration property") else text
    except (TypeError, ValueError) as error:
        return f"cannot be set in a file: {error}"
    return ""


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, [*USUAL, *OWNED], 1)
    return f'{_NO_SUCH}; did you mean "{near[0]}"?' if near else _NO_SUCH


def _absent(key: str, value: ConfigValue) -> str:
    if not key.endswith(".location") or not isinstance(value, str) or value == "probe" or Path(value).exists():
        return ""
    return "there is no such file"
