"""`python -m tests.bench.index`: what the index of parked records takes, in memory and in time.

Each figure in a process of its own: the growth of its resident set over 1,000,000 records with ids of 50 characters.
"""

from __future__ import annotations

import multiprocessing
import resource
import time

from kalinka_jms.sub.parked import ParkedIndex

RECORDS = 1_000_000


def run(each: int) -> tuple[float, float, float]:
    """Bytes a record, seconds, and the index's own estimate of bytes a record, with `each` records a device."""
    keys = [(f"device-{n // each:08}", f"dev1/ID:host-40123-1763838000000-5:{n:07}:-1:1:1") for n in range(RECORDS)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index, begun = ParkedIndex(), time.perf_counter()
    for offset, (device, id) in enumerate(keys):
        # copies, as a reader would make them: nothing is shared with the list above
        index.add(device[:1] + device[1:], "0.mqtt.mqtt,server", id[:1] + id[1:], offset, 256, 1_763_838_000_000)
    seconds = time.perf_counter() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return grown / RECORDS, seconds, index.memory / RECORDS


if __name__ == "__main__":
    with multiprocessing.Pool(1, maxtasksperchild=1) as pool:
        for each in (1, 10, 100, 1000):
            size, seconds, estimate = pool.apply(run, (each,))
            print(
                f"{each:5} a device: {size:4.0f} bytes a record ({estimate:.0f} by its own count), "
                f"{seconds:.1f} s for {RECORDS:,}"
            )
