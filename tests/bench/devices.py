"""Many MQTT devices in one process, as cheap as they can be: they connect, subscribe, acknowledge and count.

A real client costs more CPU a message than the bridge does, and there are two cores for everything.
"""

from __future__ import annotations

import multiprocessing
import selectors
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized

from tests.bench.connection import Connection

AT_ONCE = 500
"""Devices that wait for their subscription. A broker takes the longer for one the more it has (it looks at all
subscriptions for each new destination), and 6.3.1 closes a connection whose CONNECT it has not read after 30 s. With a
second subscription each, 8,000 devices fill a heap of 512 MB."""


def _run(
    places: Sequence[tuple[str, str]], port: int, clean: bool, ready: Synchronized[int], count: Synchronized[int]
) -> None:
    selector, come = selectors.DefaultSelector(), 0
    while True:
        for name, host in places[come : ready.value + AT_ONCE]:
            device = Connection(host, port, name, [f"sparkcluster/mqtt/{name}/sub"], clean=clean)
            selector.register(device.socket, selectors.EVENT_READ, device)
            come += 1
        for key, _ in selector.select():
            _, messages, subscribed = key.data.read()
            if messages:
                count.value += len(messages)
            if subscribed:
                ready.value += 1


class Devices:
    """Devices `d0` … on the given hosts in turn, in a process of their own; with sessions that are clean, or not."""

    def __init__(
        self, number: int, hosts: Sequence[str], port: int = 1883, *, clean: bool = True, prefix: str = "d"
    ) -> None:
        self._start([(f"{prefix}{i}", hosts[i % len(hosts)]) for i in range(number)], port, clean)

    @classmethod
    def at(cls, places: Sequence[tuple[str, str]], port: int = 1883) -> Devices:
        """Devices by name and host."""
        made = cls.__new__(cls)
        made._start(places, port, True)
        return made

    def _start(self, places: Sequence[tuple[str, str]], port: int, clean: bool) -> None:
        self.names = [name for name, _ in places]
        self._ready: Synchronized[int] = multiprocessing.Value("l", 0, lock=False)
        self._count: Synchronized[int] = multiprocessing.Value("l", 0, lock=False)
        arguments = (places, port, clean, self._ready, self._count)
        self._process = multiprocessing.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def connected(self) -> int:
        """How many are subscribed."""
        return self._ready.value

    @property
    def ready(self) -> bool:
        """Whether all of them are subscribed. Raises AssertionError when their process has ended."""
        assert self._process.is_alive(), "the process of the devices has ended"
        return self.connected >= len(self.names)

    @property
    def received(self) -> int:
        """Messages received so far."""
        return self._count.value

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
