"""The scenarios, one module for each kind of thing that is broken. A new module is entered in MODULES."""

from tests.chaos.scenario import ALL, Scenario
from tests.chaos.scenarios import processes

MODULES = (processes,)

__all__ = ["ALL", "MODULES", "Scenario"]
