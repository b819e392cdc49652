"""Destinations to try a route with."""

from __future__ import annotations

from collections.abc import Sequence

from kalinka_jms.names import to_jms
from kalinka_jms.template import Template


def jms(text: str, group: str, device: str, other: str) -> str:
    """The JMS form of a route's MQTT template, with the device and everything else filled in."""
    template = Template(text).bound({"group": group})
    values = dict.fromkeys(template.names, other) | {"device": device}
    return "".join(to_jms(part) if isinstance(part, str) else values[part.name] for part in template.parts)


def table(routes: Sequence[str], group: str, device: str, other: str) -> dict[str, str]:
    """The JMS form of each route → the first route that has it, in order."""
    found: dict[str, str] = {}
    for route in routes:
        found.setdefault(jms(route, group, device, other), route)
    return found


def wildcard(text: str, group: str) -> str:
    """The JMS wildcard of a route's MQTT template, as a policy of the broker names it."""
    template = Template(text).bound({"group": group})
    parts = (to_jms(part) if isinstance(part, str) else ">" if part.rest else "*" for part in template.parts)
    return "".join(parts)
