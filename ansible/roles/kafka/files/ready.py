"""Wait until a Kafka node has joined and every partition has all of its copies.

ready.py SERVER NODE AWAY SECONDS [SETTINGS]; AWAY: nodes whose copies do not count, as 1,2, or - for none

Only then may the next node be stopped: with one copy behind, another node less could be one too many.
"""

import json
import sys
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def lacks(client, node, away):
    """What is not well yet, in words; empty when all is."""
    try:
        told = client.list_topics(timeout=5)
    except KafkaException as error:
        return str(error.args[0])
    if node not in told.brokers:
        return f"node {node} has not joined"
    behind = [
        f"{topic.topic}-{partition.id}"
        for topic in told.topics.values()
        for partition in topic.partitions.values()
        if set(partition.replicas) - set(partition.isrs) - away
    ]
    return f"{len(behind)} partitions have too few copies in sync: {', '.join(behind[:3])}" if behind else ""


def main(server, node, away, seconds, settings="{}"):
    client = AdminClient({"bootstrap.servers": server, "log_level": 0, **json.loads(settings)})
    until = time.monotonic() + seconds
    while reason := lacks(client, node, away):
        if time.monotonic() > until:
            print(f"Kafka at {server}, after {seconds} s: {reason}", file=sys.stderr)
            return 1
        time.sleep(0.3)
    return 0


AWAY = {int(node) for node in sys.argv[3].split(",") if node != "-"}
sys.exit(main(sys.argv[1], int(sys.argv[2]), AWAY, float(sys.argv[4]), *sys.argv[5:]))
