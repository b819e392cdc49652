"""Names of topics, as MQTT, ActiveMQ (JMS) and Kafka have them, and the ids in them that are refused."""

from __future__ import annotations

from functools import lru_cache

CANARY = "kalinka-canary"
"""The device that is never there: a send to it must be reported as undelivered."""

PROBE = "kalinka-probe"
"""The device and source of what a check of a running installation tries: nothing is ever delivered to it."""

MAX_DESTINATION = 8000
"""Bytes a destination may have: a STOMP header beyond 10 KiB kills the link (tried: 10,200 pass, 10,300 do not)."""

FORBIDDEN = ".,?*>#+/"
"""Separators, wildcards and option signs of MQTT and ActiveMQ: an id with one would name another destination."""

_SWAP = str.maketrans("/.+*#>", "./*+>#")


def parked_topic(group: str) -> str:
    """The name of the Kafka topic where a group's records wait."""
    return f"{group}.parked"


def to_jms(mqtt: str) -> str:
    """The JMS form of an MQTT topic or filter. ActiveMQ swaps the signs pairwise, so it is its own inverse."""
    return mqtt.translate(_SWAP)


def to_mqtt(jms: str) -> str:
    """The MQTT form of a JMS name."""
    return jms.translate(_SWAP)


@lru_cache(65_536)
def matches(filter_jms: str, destination_jms: str) -> bool:
    """Whether a JMS filter takes a destination: `*` is one level, `>` at the end is any number of them, also none."""
    if filter_jms == destination_jms:
        return True
    wanted, given = filter_jms.split("."), destination_jms.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) < len(wanted):
            return False
    elif len(given) != len(wanted):
        return False
    return all(sign in ("*", level) for sign, level in zip(wanted, given, strict=False))


def refusal(id: str | bytes) -> str | None:
    """Why the id of a device or source is refused, or None where it is fine."""
    try:
        text = id.decode() if isinstance(id, bytes) else id
        text.encode()
    except UnicodeError:
        return "the id is not UTF-8"
    if not text:
        return "the id is empty"
    if found := next((sign for sign in FORBIDDEN if sign in text), None):
        return f'the id contains "{found}"'
    if "\x00" in text:
        return "the id contains NUL"  # MQTT has none [MQTT-1.5.3-2], and STOMP ends its frames with it
    if text != text.strip() or text[0] < "!" or text[-1] < "!":
        return "the id begins or ends with a blank"
    return "the id is reserved for Kalinka" if text in (CANARY, PROBE) else None
