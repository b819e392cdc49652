"""What a running installation says of one way: where its device listens now, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kalinka_jms.config import Settings
from kalinka_jms.names import to_jms, to_mqtt
from kalinka_jms.ops.census import Census
from kalinka_jms.ops.cluster import Cluster
from kalinka_jms.ops.committed import Committed
from kalinka_jms.ops.explain import Down, Way
from kalinka_jms.ops.reader import newest, read
from kalinka_jms.ops.tally import Waiting, parked
from kalinka_jms.registry.zookeeper import Client

RECORDS = 1_000_000
"""Parked records that are looked through, the newest."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Live:
    """The state of a way's end."""

    owner: str | None
    """The broker where a record would be delivered now; None: it would be parked."""
    listens: tuple[tuple[str, tuple[str, ...]], ...]
    """Broker → the MQTT filters that the device listens to there, newest first, without brokers that are down."""
    waiting: Waiting | None
    """What is parked for the device, in any topic; None: nothing."""
    undecided: int | None
    """Records in the same partition that have no outcome yet; None where the partition is not known."""
    reader: str | None
    """The host of the instance of `kalinka sub` that reads the partition; None: nobody reads it."""


class Looker:
    """Asks ZooKeeper and Kafka. Raises RegistryError and KafkaError where they do not answer."""

    def __init__(self, settings: Settings, client: Client, cluster: Cluster) -> None:
        self._settings = settings
        self._census = Census(client, settings.zookeeper.root)
        self._cluster = cluster

    def look(self, way: Way, tell: Tell = lambda _: None) -> Live | None:
        """The state now; None for a way that leads to no device."""
        if way.down is None or way.record is None:
            return None
        partition = way.record.partition.number
        live = self._listens(way.down)
        live = replace(live, waiting=self._waiting(way.down, tell))
        return live if partition is None else self._partition(live, way.record.topic, partition)

    def _listens(self, down: Down) -> Live:
        groups = {broker.name: broker.group for broker in self._settings.brokers}
        away = self._census.down(list(groups))
        entry = next((entry.without(away) for _, entry in self._census.entries([down.device])), None)
        parts = entry.parts if entry is not None else ()
        listens = tuple((part.broker, tuple(to_mqtt(one.topic) for one in part.filters)) for part in parts)
        owners = entry.owners(to_jms(down.topic)) if entry is not None else ()
        return Live(next(iter(owners), None), listens, None, None, None)

    def _waiting(self, down: Down, tell: Tell) -> Waiting | None:
        spans = newest(self._cluster.spans([down.parked]), RECORDS)
        return next((one for one in parked(read(self._settings, spans, tell)) if one.device == down.device), None)

    def _partition(self, live: Live, topic: str, partition: int) -> Live:
        first, end = self._cluster.spans([topic])[topic, partition]
        members = self._cluster.group(self._settings.sub.consumer_group).members
        hosts = (one.host.lstrip("/") for one in members if partition in one.partitions.get(topic, ()))
        with Committed(self._settings) as committed:
            undecided = end - max(committed.offset(topic, partition), first)
        return replace(live, undecided=undecided, reader=next(hosts, None))
