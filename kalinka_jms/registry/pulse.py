"""The times of a watcher, for those who watch over it."""

from __future__ import annotations

import time

TURN = 5.0
"""Seconds between two turns of a watcher, at most."""


class Pulse:
    """Kept by the watcher's thread, read by any."""

    def __init__(self) -> None:
        self.turned = self.true_at = time.monotonic()
        """When it turned last, and when what the registry says of its broker was last known to be true."""
        self.reconciled_at = 0.0
        """When a replay was last taken in whole (seconds since the epoch)."""

    def turn(self, true: bool) -> float:
        """It turns; the time (seconds, monotonic)."""
        self.turned = time.monotonic()
        if true:
            self.true_at = self.turned
        return self.turned

    def reconciled(self) -> None:
        """A replay was taken in whole."""
        self.reconciled_at = time.time()
