"""The Kafka topics of the lab's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kalinka_jms.errors import LabError
from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.waiting import wait_until

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

PARTITIONS = 6
GROUP = "0"
_DOWN = ("mqtt.mqtt", "sparkcluster.mqtt")
_UP_ONLY = ("mqtt.sparkcluster",)


def wanted() -> dict[str, dict[str, str]]:
    """Every topic with the settings that are its own. `parked` has as many partitions as the topics that devices are
    served from, since a record is parked under the number of the partition it came from."""
    plain = {f"{GROUP}.{name}": dict[str, str]() for name in (*_DOWN, *_UP_ONLY)}
    return {
        **plain,
        f"{GROUP}.parked": {"cleanup.policy": "compact"},
        "kalinka.dead": {"retention.ms": "-1"},  # kept until someone looks
    }


def create(layout: Layout, patience: float = 120.0) -> None:
    """Create what is missing, and wait until every partition has its leader and all of its copies. Raises LabError."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": layout.bootstrap, "log_level": 0})
    try:
        _create_missing(client, layout.replication)
        if not wait_until(lambda: _complete(client, layout.replication), patience):
            raise LabError(f"the topics have no leaders or too few copies after {patience:.0f} s")
    except KafkaException as error:
        raise LabError(f"cannot create the topics at {layout.bootstrap}: {error}") from None


def _create_missing(client: AdminClient, replication: int) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.cimpl import NewTopic

    there = client.list_topics(timeout=10).topics
    topics = [NewTopic(n, PARTITIONS, replication, config=c) for n, c in wanted().items() if n not in there]
    for made in client.create_topics(topics).values() if topics else ():
        try:
            made.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _complete(client: AdminClient, replication: int) -> bool:
    from confluent_kafka import KafkaException

    try:
        there = client.list_topics(timeout=10).topics
    except KafkaException:
        return False  # no answer yet: asked again until the patience ends
    partitions = [part for name in wanted() if name in there for part in there[name].partitions.values()]
    complete = all(part.leader >= 0 and len(part.isrs) == replication for part in partitions)
    return complete and len(partitions) == PARTITIONS * len(wanted())
