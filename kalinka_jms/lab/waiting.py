"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP = 0.02
"""Seconds between two looks at a condition."""


def wait_until(condition: Callable[[], object], timeout: float) -> bool:
    """Look at `condition` until it is true; False when it was not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return bool(condition())
        time.sleep(STEP)
    return True
