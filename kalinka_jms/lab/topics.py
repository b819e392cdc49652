"""The Kafka topics of the lab's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kalinka_jms.errors import KafkaError, LabError
from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.waiting import wait_until

if TYPE_CHECKING:
    from kalinka_jms.config.settings import Settings
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.topic_plan import Step

PARTITIONS = 6
GROUP = "0"


def create(layout: Layout, settings: Settings, patience: float = 120.0) -> None:
    """Create what is missing, and wait until every partition has its leader and all of its copies. Raises LabError."""
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.topic_plan import Wish, carry_out, look_and_plan
    from kalinka_jms.ops.topics import wanted

    cluster = Cluster(settings)
    try:
        steps = look_and_plan(cluster, wanted(settings), Wish(PARTITIONS, layout.replication))
        carry_out(cluster, steps)
    except KafkaError as error:
        raise LabError(f"cannot create the topics: {error}") from None
    if not wait_until(lambda: _complete(cluster, steps), patience):
        raise LabError(f"the topics have no leaders or too few copies after {patience:.0f} s")


def _complete(cluster: Cluster, steps: list[Step]) -> bool:
    from kalinka_jms.ops.topic_plan import complete

    try:
        return complete(cluster, steps)
    except KafkaError:
        return False  # no answer yet: asked again until the patience ends
