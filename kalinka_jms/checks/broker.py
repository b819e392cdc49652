"""Is a broker set up as Kalinka needs it? Found by trying, over STOMP and MQTT; nothing of it stays there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kalinka_jms.checks import absence, arrival, forwarding, frames, logins, words
from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.checks.probe import NoEcho, Probe
from kalinka_jms.config import Broker, Settings
from kalinka_jms.errors import LinkError, LinkLost, LinkRefused

FLOOR = (6, 2, 9)
"""The oldest ActiveMQ Classic that is supported."""


def check(settings: Settings, broker: Broker) -> Iterator[Finding]:
    """Everything about one broker. Raises nothing that its state can cause."""
    try:
        yield from _tried(settings, broker)
    except LinkError as error:
        yield _failed(broker, error)


def _tried(settings: Settings, broker: Broker) -> Iterator[Finding]:
    routes = [route.to for route in settings.routes.down]
    canaries = absence.canaries(routes, broker.group)
    filters = arrival.filters(routes, broker.group)
    told = words.destinations(settings, broker.group)
    advisories = [*absence.advisories(canaries), *arrival.advisories(filters), *words.advisories(told)]
    with Probe(broker, advisories) as probe:
        yield _version(broker, probe.link.server)
        yield from absence.look(broker, probe, canaries)
        yield from arrival.look(broker, probe, filters)
        if told:
            yield from words.look(broker, probe, told)
        user = probe.user
    if settings.pub.verify_source:
        yield from logins.look(broker, user)
    yield from forwarding.look(broker, [route.from_ for route in settings.routes.up], settings.pub.queues)
    yield from frames.look(settings, broker)


def _version(broker: Broker, server: str) -> Finding:
    found = re.fullmatch(r"ActiveMQ/(\d+)\.(\d+)\.(\d+).*", server)
    if not found:
        means = f"the broker says that it is {server or 'nothing'!r}: Kalinka needs ActiveMQ Classic"
        return Finding(broker.name, Kind.FINDING, means, "use ActiveMQ Classic 6.2.9 or newer")
    if tuple(map(int, found.groups())) < FLOOR:
        means = f"{server} is older than 6.2.9: it has known holes, and Kalinka is not tested with it"
        return Finding(broker.name, Kind.FINDING, means, "update it")
    return Finding(broker.name, Kind.FINE, f"{server} answers at {broker.stomp}")


def _failed(broker: Broker, error: LinkError) -> Finding:
    text = str(error).removeprefix(f"{broker.name}: ")
    match error:
        case LinkRefused():
            kind, means, remedy = (
                Kind.FINDING,
                f"the broker refuses the link: {_after_colon(text)}",
                _credentials(broker),
            )
        case NoEcho():
            kind, means = Kind.FINDING, "what Kalinka sends to itself does not come back: nothing could be proven"
            remedy = "see in the broker's log whether it holds producers back (memoryUsage, tempUsage in systemUsage)"
        case LinkLost() if "authorized" in text:
            kind, means = (
                Kind.FINDING,
                f"the login {broker.login or 'of nobody'} may not do enough: {_after_colon(text)}",
            )
            remedy = (
                "allow it to read, write and admin ActiveMQ.Advisory.>, kalinka.> and the topics of the down routes, "
                "and to read the queues of [pub]"
            )
        case _:
            kind, remedy = Kind.UNREACHABLE, "start the broker, or correct stomp of this broker"
            means = text if broker.stomp in text else f"{broker.stomp}: {text}"
    return Finding(broker.name, kind, means, remedy)


def _credentials(broker: Broker) -> str:
    if broker.login is None:
        return "give this broker a login and a passcode in the configuration"
    return f'correct login ("{broker.login}") and passcode of this broker in the configuration'


def _after_colon(text: str) -> str:
    return text.removeprefix("the broker reported an error: ").rstrip(". ")
