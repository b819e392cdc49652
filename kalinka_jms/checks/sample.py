"""Destinations to try a route with."""

from __future__ import annotations

from collections.abc import Sequence

from kalinka_jms.names import to_jms
from kalinka_jms.template import Part, Template


def jms(text: str, group: str, device: str, other: str) -> str:
    """The JMS form of a route's MQTT template, with the device and everything else filled in."""
    template = Template(text)
    values = dict.fromkeys(template.names, other) | {"device": device, "group": group}
    return "".join(to_jms(part) if isinstance(part, str) else values[part.name] for part in template.parts)


def table(routes: Sequence[str], group: str, device: str, other: str) -> dict[str, str]:
    """The JMS form of each route → the first route that has it, in order."""
    found: dict[str, str] = {}
    for route in routes:
        found.setdefault(jms(route, group, device, other), route)
    return found


def wildcard(text: str, group: str) -> str:
    """The JMS wildcard of a route's MQTT template, as a policy of the broker names it."""
    return "".join(_sign(part, group) for part in Template(text).parts)


def _sign(part: Part, group: str) -> str:
    if isinstance(part, str):
        return to_jms(part)
    return group if part.name == "group" else ">" if part.rest else "*"
