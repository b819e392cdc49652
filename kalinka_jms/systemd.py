"""Tells systemd how the process stands, where systemd started it with `Type=notify`; nothing happens elsewhere.

The protocol is one datagram of `NAME=value` lines to the socket in NOTIFY_SOCKET: systemd's own manual, sd_notify(3),
carries it as an example to copy, and the packages that wrap it need a C library or are not kept up any more.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping


class Systemd:
    """What systemd hears. `pause`: seconds between two signs of life, None where it watches for none."""

    def __init__(self, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`environ` is the process's own where it is not given."""
        environ = os.environ if environ is None else environ
        self._socket = environ.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self.pause = _watchdog(environ)
        self._alive_at = float("-inf")
        self._status = ""

    def ready(self) -> None:
        """The service works."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`, sent when it changes."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """A sign of life, sent no more often than it has to be. Without one for WatchdogSec systemd acts."""
        now = self._clock()
        if self.pause is not None and now - self._alive_at >= self.pause:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._socket:
            return
        # "@" stands for the zero byte of an abstract address
        address = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)  # a full socket must not stop the service
            notify.sendto(message.encode(), address)


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Half of what systemd allows, in seconds; None where it does not watch this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdigit() and int(text) else None
