"""A scenario: what it breaks, what must arrive there, and how fast the work goes on. One function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

PROFILES = ("small", "full")
DELIVERIES = ("broker", "device")
SESSIONS = ("clean", "persistent")


@dataclass(frozen=True, slots=True)
class Scenario:
    """`play` breaks something on a stage under load, and says by `Stage.recovered` how fast the work must go on.

    `must` says what must arrive, by the table of guarantees; the judge counts it: lost 0 and reordered 0 always.
    `duplicates` is the most that may be: 0 for clean stops, None where the window in flight may come twice.
    """

    name: str
    breaks: str
    must: str
    play: Callable[[Stage], None]
    duplicates: int | None = None
    profiles: tuple[str, ...] = PROFILES
    ci: bool = True
    """Part of the bounded run."""
    roaming: bool = False
    """Devices whose connection breaks go on at another broker."""


def scenario(name: str, *, breaks: str, must: str, **options: object) -> Callable[[Callable[[Stage], None]], Scenario]:
    """Make a scenario of a function."""
    return lambda play: Scenario(name, breaks, must, play, **options)  # type: ignore[arg-type]
