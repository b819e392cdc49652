"""`python -m tests.bench.backlog --config FILE`: how long an instance reads a backlog before it takes records.

It fills the parked topic of group "0" with that many gigabytes, and reads all its partitions as `kalinka sub` does when
they are assigned to it: keys and sizes into the index, the payloads left where they are. Seen with 600,000 records of
1,000 bytes on 2 cores that had other work: 6 s a GB, 5 s of them processor (40 s with librdkafka's default for
`fetch.queue.backoff.ms`).
"""

from __future__ import annotations

import argparse
import os
import queue
import resource
import time
from pathlib import Path
from typing import Any

from kalinka_jms.config import Settings, load
from kalinka_jms.kafka import producer
from kalinka_jms.names import parked_topic
from kalinka_jms.ops.cluster import Cluster
from kalinka_jms.sub.backlog import Backlog, Indexed
from kalinka_jms.sub.parked import parked_key
from kalinka_jms.sub.replays import take_in
from kalinka_jms.sub.share import Share

GROUP = "0"
DEVICES = 10_000


def fill(settings: Settings, gigabytes: float, size: int) -> int:
    """Park records of `size` bytes; returns how many."""
    topic, made = parked_topic(GROUP), producer(settings, **{"linger.ms": 20, "batch.size": 1_000_000})
    partitions = Cluster(settings).count(topic) or 1
    value, records = os.urandom(size), int(gigabytes * 1e9 / size)
    for number in range(records):
        device = number % DEVICES
        key = parked_key(f"device-{device:06}", "0.mqtt.mqtt,server", f"dev1/ID:host-40123-1763838000000-5:{number:08}")
        while True:
            try:
                made.produce(topic, value, key, partition=device % partitions)
                break
            except BufferError:
                made.poll(0.1)
    made.flush()
    return records


def read(settings: Settings) -> tuple[float, list[Share]]:
    """Index every partition; seconds until the last is whole, and what was found."""
    mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    backlog = Backlog(settings, mailbox.put)
    shares = [Share(GROUP, number) for number in range(Cluster(settings).count(parked_topic(GROUP)) or 1)]
    left = len(shares)
    begun = time.perf_counter()
    backlog.start()
    for share in shares:
        backlog.index(share)
    while left:
        found = mailbox.get()
        assert isinstance(found, Indexed), found
        take_in(found)
        left -= found.whole
    seconds = time.perf_counter() - begun
    backlog.stop()
    backlog.join(10)
    return seconds, shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=0.0, help="so much is parked first")
    parser.add_argument("--size", type=int, default=1000, help="bytes a record")
    options = parser.parse_args()
    settings = load(options.config)
    if options.gigabytes:
        print(f"{fill(settings, options.gigabytes, options.size):,} records parked", flush=True)
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    seconds, shares = read(settings)
    after = resource.getrusage(resource.RUSAGE_SELF)
    count, size = sum(share.index.count for share in shares), sum(share.index.bytes for share in shares)
    used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(
        f"{count:,} records, {size / 1e9:.2f} GB of values: {seconds:.1f} s, {used:.1f} s of them processor; "
        f"{seconds / (size / 1e9):.1f} s a GB, {count / seconds:,.0f} records/s"
    )


if __name__ == "__main__":
    main()
