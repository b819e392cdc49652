"""Wait until a Kafka node has joined and every partition has all of its copies: ready.py

ready.py SERVER NODE SECONDS [SETTINGS]

Only then may the next node be stopped: with one copy behind, another node less could be one too many.
"""

import json
import sys
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def lacks(client, node):
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
        if len(partition.isrs) < len(partition.replicas)
    ]
    return f"{len(behind)} partitions have too few copies in sync: {', '.join(behind[:3])}" if behind else ""


def main(server, node, seconds, settings="{}"):
    client = AdminClient({"bootstrap.servers": server, "log_level": 0, **json.loads(settings)})
    until = time.monotonic() + seconds
    while reason := lacks(client, node):
        if time.monotonic() > until:
            print(f"Kafka at {server}, after {seconds} s: {reason}", file=sys.stderr)
            return 1
        time.sleep(0.3)
    return 0


sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
