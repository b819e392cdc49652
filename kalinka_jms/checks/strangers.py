"""Who listens to devices' topics without being a device: what broker and client tell of each other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kalinka_jms.checks.probe import Probe
from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkError
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.stomp.frames import Frame


def clients(broker: Broker, filters: Iterable[Filter]) -> dict[Filter, str]:
    """The client of each filter as people know it: `"spy" (tcp://10.0.0.9:50123)`; its connection where that is all."""
    names: dict[str, str] = {}
    try:
        with Probe(broker, ["Connection"]) as probe:
            for frame in probe.answers():
                names |= _client(frame)
    except LinkError:
        pass  # it may be that we are not allowed to ask
    connections = {filter: filter.consumer.rsplit(":", 2)[0] for filter in filters}
    return {filter: names.get(connection, f"connection {connection}") for filter, connection in connections.items()}


def _client(frame: Frame) -> dict[str, str]:
    try:
        document: Any = json.loads(frame.body, parse_int=str, parse_float=str)
    except ValueError:
        return {}
    match document:
        case {"ConnectionInfo": {"connectionId": {"value": str(connection)}, "clientId": name, **rest}}:
            user = f", user {rest['userName']}" if rest.get("userName") else ""
            return {connection: f'"{name}" ({rest.get("clientIp", "?")}{user})'}
    return {}
