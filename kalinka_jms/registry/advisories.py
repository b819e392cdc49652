"""Consumer advisories: what the broker says when a subscription begins and when it ends.

The bodies are those of `transformation:jms-advisory-json`. Jettison, which writes them on the broker, guesses types: a
name made of digits arrives as a number. So every number is read as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kalinka_jms.errors import FrameError

QOS = {"AT_MOST_ONCE": 0, "AT_LEAST_ONCE": 1, "EXACTLY_ONCE": 2}
"""How the broker's MQTT side begins the name of a persistent session's subscription, before `:` and the filter."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One subscription on one broker: what it matches, and whose it is."""

    topic: str
    """The filter in JMS form, e.g. `mqtt.*.mqtt.dev1.sub`."""
    consumer: str
    """The broker's id of the consumer, `<connection id>:<session>:<number>`; used once and never again."""
    subscription: str | None = None
    """The name of the durable subscription; only persistent sessions have one."""

    @property
    def qos(self) -> int | None:
        """The QoS a persistent session asked for; a clean session's is not told."""
        return None if self.subscription is None else QOS.get(self.subscription.partition(":")[0])

    @property
    def connection(self) -> tuple[str, int]:
        """The run of the generator that numbered the connection, and the number; later ones have higher numbers."""
        run, _, number = self.consumer.rsplit(":", 2)[0].rpartition(":")
        return run, int(number) if number.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Begun:
    """A subscription began, or is there already (in a replay the two look the same)."""

    filter: Filter


@dataclass(frozen=True, slots=True)
class Ended:
    """A subscription ended: by UNSUBSCRIBE, DISCONNECT, a closed connection or a takeover."""

    consumer: str


def parse(body: bytes) -> Begun | Ended | None:
    """What an advisory says; None if it is about something else. Raises FrameError if it cannot be read."""
    try:
        document = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
        match document:
            case {"ConsumerInfo": {"consumerId": consumer, "destination": destination, **rest}}:
                return Begun(Filter(_topic(destination), _consumer(consumer), _subscription(rest)))
            case {"RemoveInfo": {"objectId": {"value": _, "connectionId": _} as consumer}}:
                return Ended(_consumer(consumer))
            case _:
                return None
    except (ValueError, KeyError, TypeError) as error:
        raise FrameError(f"an advisory that cannot be read ({error!r}): {body[:200]!r}") from error


def _consumer(node: Mapping[str, Any]) -> str:
    return f"{node['connectionId']}:{node['sessionId']}:{node['value']}"


def _topic(node: Mapping[str, Any]) -> str:
    return str(node["string"])


def _subscription(node: Mapping[Any, Any]) -> str | None:
    name = node.get("subscriptionName")
    return None if name is None else str(name)
