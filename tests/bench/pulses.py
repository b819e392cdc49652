"""Messages from devices to devices at a steady rate, and how long each took: `python -m tests.bench.pulses ARGUMENTS`.

Sources publish at one broker, destinations listen at another one, all in one process: one clock.
"""

from __future__ import annotations

import json
import selectors
import statistics
import struct
import sys
import time
from typing import Any

from tests.bench.connection import Connection
from tests.mqtt_packets import publish

PAIRS = 50
SIZE = 256
WARM_UP = 3.0
"""Seconds that do not count: new pairs cost the broker a topic, and who listens has to become known."""
PATIENCE = 30.0
"""Seconds that the last messages may take."""
_STAMP = struct.Struct("!Qd")
"""The number of a message, and when it was sent (seconds, monotonic)."""


class Pulses:
    """The devices, and what they have seen."""

    def __init__(self, near: str, far: str, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sources = [Connection(near, port, f"s{i}") for i in range(PAIRS)]
        self._listening = self.sent = 0
        self.seen: dict[int, float] = {}
        """Number → seconds it took."""
        self.copies = 0
        sinks = [Connection(far, port, f"p{i}", [f"mqtt/+/mqtt/p{i}/sub"]) for i in range(PAIRS)]
        for one in self._sources + sinks:
            self._selector.register(one.socket, selectors.EVENT_READ, one)
        self._until(lambda: self._listening == PAIRS)

    def run(self, rate: float, seconds: float) -> list[float]:
        """Send so long; what each counted message took, in ms, once all have come. Raises TimeoutError."""
        begun = time.monotonic()
        counted = int(rate * WARM_UP)
        total = counted + int(rate * seconds)
        while self.sent < total:
            self._look(max(0.0, begun + self.sent / rate - time.monotonic()))
            while self.sent < total and time.monotonic() >= begun + self.sent / rate:
                self._send()
        self._until(lambda: len(self.seen) == total)
        return sorted(1000 * took for number, took in self.seen.items() if number >= counted)

    def _send(self) -> None:
        pair = self.sent % PAIRS
        payload = _STAMP.pack(self.sent, time.monotonic()).ljust(SIZE, b"x")
        packet = publish(f"mqtt/s{pair}/mqtt/p{pair}/pub", self.sent % 65_535 + 1, payload)
        self._sources[pair].socket.sendall(packet)
        self.sent += 1

    def _look(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            data, payloads, subscribed = key.data.read()
            now = time.monotonic()
            self._listening += subscribed
            for start, _ in payloads:
                number, sent = _STAMP.unpack_from(data, start)
                self.copies += number in self.seen
                self.seen.setdefault(number, now - sent)

    def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.seen)} of {self.sent} messages came, {self._listening} devices listen")
            self._look(0.1)


def main() -> None:
    near, far, port, rate, seconds = json.loads(sys.argv[1])
    pulses = Pulses(near, far, port)
    took = pulses.run(rate, seconds)
    cuts = statistics.quantiles(took, n=100)
    print(json.dumps({"p50": cuts[49], "p99": cuts[98], "most": took[-1], "copies": pulses.copies}))


if __name__ == "__main__":
    main()
