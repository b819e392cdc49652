"""Many devices that only listen, in a process of their own: `python crowd.py HOST PORT FIRST COUNT SUFFIX`.

Each connects, subscribes to its topics of one route, and stays. The process says `ready` when all of them are
subscribed, and ends with its standard input. A real client would cost more than the broker does; and with a second
subscription each, 8,000 of them fill a broker's heap of 512 MB (6.3.1).
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

from tests.mqtt_packets import connect, subscribe

SUBACK = 9
AHEAD = 100
"""Connections that wait for their SUBACK at a time."""


class Crowd:
    """Such a process, and the names of its devices."""

    def __init__(self, host: str, port: int, first: int, count: int, suffix: str) -> None:
        self._suffix = suffix
        self._numbers = range(first, first + count)
        command = (sys.executable, str(Path(__file__)), host, str(port), str(first), str(count), suffix)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ready = False
        """Whether all of them are subscribed."""
        Thread(target=self._wait, daemon=True).start()

    @property
    def names(self) -> list[str]:
        """Their whole names."""
        return [f"c{number}-{self._suffix}" for number in self._numbers]

    def device(self, place: int) -> str:
        """The name of one of them, as `Scene` takes it."""
        return f"c{self._numbers[place]}"

    def stop(self) -> None:
        """Close all sockets at once, by the end of the process."""
        self._process.kill()
        self._process.communicate()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        self.ready = self._process.stdout.readline() == b"ready\n"


def _connect(host: str, port: int, name: str) -> socket.socket:
    connection = socket.create_connection((host, port), 60)
    connection.sendall(connect(name) + subscribe(1, f"mqtt/+/mqtt/{name}/sub"))
    return connection


def _subscribed(connection: socket.socket) -> bool:
    """Whether the SUBACK has come: nothing else but the CONNACK comes before it. Raises ConnectionError."""
    data = connection.recv(4096, socket.MSG_PEEK)
    if not data:
        raise ConnectionError("the broker closed a connection")
    return len(data) >= 4 + 5 and data[4] >> 4 == SUBACK


def _run(host: str, port: int, names: list[str]) -> None:
    selector, kept, waiting = selectors.DefaultSelector(), [], 0
    for name in names:
        kept.append(_connect(host, port, name))
        selector.register(kept[-1], selectors.EVENT_READ)
        waiting += 1
        while waiting > AHEAD or (name is names[-1] and waiting):
            for key, _ in selector.select(60):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if _subscribed(connection):
                    selector.unregister(connection)
                    waiting -= 1
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    host, port, first, count, suffix = sys.argv[1:]
    _run(host, int(port), [f"c{number}-{suffix}" for number in range(int(first), int(first) + int(count))])
