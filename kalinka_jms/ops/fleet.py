"""The brokers as Kalinka sees them: what their watchers wrote, and who has links to them."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from kazoo.exceptions import NoNodeError

from kalinka_jms.config import Broker, Settings
from kalinka_jms.ops.census import Census, Tell
from kalinka_jms.ops.cluster import GroupState
from kalinka_jms.ops.topics import wanted
from kalinka_jms.pub.members import winner
from kalinka_jms.registry.znodes import Znodes, escape
from kalinka_jms.registry.zookeeper import Client

State = Literal["up", "down", "never seen"]


@dataclass(frozen=True, slots=True)
class Links:
    """How many links Kalinka's services have to a broker; None where it is not known."""

    pub: int
    sub: int | None
    registry: int


@dataclass(frozen=True, slots=True)
class BrokerView:
    """One broker."""

    name: str
    group: str
    stomp: str
    state: State
    """As its watcher last wrote it: `down` once it was away for longer than the grace."""
    watcher: str | None
    """The instance of `kalinka registry` that watches it; None where none does."""
    waiting: int
    """Instances that would take over."""
    pub: tuple[str, ...]
    """The instances of `kalinka pub` that are subscribed there."""
    active: str | None
    """The one of them that is to be active; the others stand by."""
    devices: int
    links: Links


class Fleet:
    """Reads all brokers' views. Raises RegistryError."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._znodes = Znodes(settings.zookeeper.root)
        self._census = Census(client, settings.zookeeper.root)

    def views(self, group: GroupState | None, tell: Tell = lambda _: None) -> list[BrokerView]:
        """One for each broker; `group` is the consumer group of `kalinka sub`, if it is known."""
        devices = self._devices(tell)
        return [self._view(broker, devices[broker.name], group) for broker in self._settings.brokers]

    def _devices(self, tell: Tell) -> Counter[str]:
        entries = self._census.entries(self._census.names(), tell)
        return Counter(broker for _, entry in entries for broker in entry.brokers)

    def _view(self, broker: Broker, devices: int, group: GroupState | None) -> BrokerView:
        name, settings = broker.name, self._settings
        election = self._znodes.election(name)
        members = f"{posixpath.dirname(settings.zookeeper.root)}/pub/{escape(name)}"
        candidates, pubs = self._children(election, members)
        state, watcher = self._read(self._znodes.broker(name), f"{election}/{candidates[0]}" if candidates else "")
        up = _state(state)
        return BrokerView(
            name=name,
            group=broker.group,
            stomp=broker.stomp,
            state=up,
            watcher=watcher.decode(errors="replace") if watcher is not None else None,
            waiting=max(len(candidates) - 1, 0),
            pub=tuple(sorted(pubs)),
            active=winner(name, pubs) if pubs and settings.pub.exclusive else None,
            devices=devices,
            links=Links(len(pubs), self._subs(broker, group), int(bool(candidates) and up == "up")),
        )

    def _subs(self, broker: Broker, group: GroupState | None) -> int | None:
        """Every instance of `kalinka sub` that serves the broker's group has a link to it."""
        if group is None or group.refused:
            return None
        topics = {topic.name for topic in wanted(self._settings) if topic.group == broker.group}
        serving = [member for member in group.members if topics & set(member.partitions)]
        return len(serving)

    def _children(self, *paths: str) -> list[list[str]]:
        requests = [partial(_children, path) for path in paths]
        found = self._client.gather(requests, tolerated=NoNodeError)
        return [sorted(names or (), key=_place) for names in found]

    def _read(self, *paths: str) -> list[bytes | None]:
        requests = [partial(_data, path) for path in paths if path]
        found = iter(self._client.gather(requests, tolerated=NoNodeError))
        answers = [next(found) if path else None for path in paths]
        return [answer[0] if answer is not None else None for answer in answers]


def as_document(view: BrokerView) -> Mapping[str, Any]:
    """The view for programs."""
    return {
        "name": view.name,
        "group": view.group,
        "stomp": view.stomp,
        "state": view.state,
        "watcher": view.watcher,
        "waiting": view.waiting,
        "pub": {"instances": list(view.pub), "active": view.active},
        "devices": view.devices,
        "links": {"pub": view.links.pub, "sub": view.links.sub, "registry": view.links.registry},
    }


def _state(data: bytes | None) -> State:
    try:
        state: Any = json.loads(data or b"{}")
    except ValueError:
        return "never seen"
    match state:
        case {"state": "up"}:
            return "up"
        case {"state": "down"}:
            return "down"
    return "never seen"


def _place(name: str) -> tuple[str, str]:
    """Candidates stand in the order of the number at the end of their names."""
    return (name[-10:], name) if "__lock__" in name else ("", name)


def _children(path: str, kazoo: Any) -> Any:
    return kazoo.get_children_async(path)


def _data(path: str, kazoo: Any) -> Any:
    return kazoo.get_async(path)
