"""Whether a broker lets Kalinka in."""

from __future__ import annotations

from kalinka_jms.config.settings import Broker
from kalinka_jms.errors import LinkError
from kalinka_jms.stomp.link import Link


def can_log_in(broker: Broker) -> bool:
    """Whether a STOMP connection is accepted there now, as this user."""
    link = Link(broker, lambda _: None)
    try:
        link.connect()
    except LinkError:
        return False
    link.disconnect()
    return True
