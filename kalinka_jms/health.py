"""Whether the services of a process are ready, and whether they are healthy.

*Ready*: it does its work. *Healthy*: the threads that own its state make progress; a service that waits for a broker,
for Kafka or for ZooKeeper is healthy, for a restart would not help it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

STUCK = 60.0
"""Seconds without a turn after which a thread counts as stuck. No call it makes may take that long: the longest, to
connect and to ask Kafka, take 20 s together, and the longest pause between two attempts is 30 s."""


class Checked(Protocol):
    """A service, as far as its health goes."""

    name: str

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What it lacks to be ready, in words; nothing where it is."""

    @property
    def failed(self) -> bool:
        """Whether a thread of it has ended that should not have."""

    @property
    def turned(self) -> float | None:
        """When the slowest of its threads turned last (seconds, monotonic); None where none has anything to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer: yes or no, and why, service by service."""

    yes: bool
    services: dict[str, Any]


class Health:
    """Asks the services of one process."""

    def __init__(self, services: Sequence[Checked], clock: Callable[[], float] = time.monotonic) -> None:
        self.services = services
        self.stopping = False
        """Set when the process has begun to stop: it is not ready any more."""
        self._clock = clock

    def ready(self) -> Verdict:
        """Whether all services do their work."""
        waiting = {service.name: list(service.waiting_for) for service in self.services}
        if self.stopping:
            waiting = {name: ["it is stopping"] for name in waiting}
        yes = bool(waiting) and not any(waiting.values())
        return Verdict(yes, {name: {"waiting for": those} for name, those in waiting.items()})

    def healthy(self) -> Verdict:
        """Whether all services make progress."""
        found = {service.name: self._ailment(service) for service in self.services}
        return Verdict(not any(found.values()), {name: {"ailment": text} for name, text in found.items()})

    def _ailment(self, service: Checked) -> str:
        if service.failed:
            return "a thread has failed"
        turned = service.turned
        still = 0.0 if turned is None else self._clock() - turned
        return f"a thread has stood still for {still:.0f} s" if still > STUCK else ""
