"""What a subscription says about presence: which devices it names at their place in a down route."""

from __future__ import annotations

from kalinka_jms.names import PROBE
from kalinka_jms.routes import Downlinks


class Presence:
    """Tells the filters that prove where a device listens from those that only overhear."""

    def __init__(self, downlinks: Downlinks) -> None:
        self._downlinks = downlinks
        self._topics = downlinks.presence_topics

    def __call__(self, filter: str) -> tuple[str, ...] | None:
        """The devices that a filter (JMS form) names; none if it takes devices' topics without naming anybody, and
        None if it has nothing to do with devices."""
        if PROBE in filter.split("."):
            return None  # somebody checks an installation
        devices = self._downlinks.devices(filter)
        if devices or any(overlaps(filter, topic) for topic in self._topics):
            return devices
        return None


def overlaps(one: str, other: str) -> bool:
    """Whether some JMS destination matches both filters."""
    mine, others = one.split("."), other.split(".")
    for a, b in zip(mine, others, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    longer, length = max(mine, others, key=len), min(len(mine), len(others))
    return len(longer) == length or longer[length] == ">"  # `a.>` takes `a` too
