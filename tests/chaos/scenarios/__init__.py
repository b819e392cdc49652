"""The scenarios, one module for each kind of thing that is broken. A new module is entered in MODULES."""

from tests.chaos.scenario import ALL, Scenario
from tests.chaos.scenarios import devices, overload, processes, servers

MODULES = (processes, servers, devices, overload)

__all__ = ["ALL", "MODULES", "Scenario"]
