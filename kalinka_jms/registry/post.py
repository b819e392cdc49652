"""A watcher's post: who it watches, and how."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from kalinka_jms.config import Broker
from kalinka_jms.registry.roster import Presence
from kalinka_jms.stomp.link import Link, Sink

LinkMaker = Callable[[Broker, Sink], Link]


@dataclass(frozen=True, slots=True)
class Post:
    """What stays the same from term to term."""

    broker: Broker
    presence: Presence
    grace: float
    """Seconds that a lost broker still counts."""
    resync: float
    """Seconds between reconciliations."""
    link: LinkMaker
    stopping: threading.Event
