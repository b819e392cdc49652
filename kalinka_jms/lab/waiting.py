"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP = 0.02
"""Seconds between two looks at a condition."""


def wait_until(condition: Callable[[], object], timeout: float, step: float = STEP) -> bool:
    """Look at `condition` every `step` seconds until it is true; False when it was not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return bool(condition())
        time.sleep(step)
    return True
