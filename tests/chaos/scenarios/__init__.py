"""The scenarios, one module for each kind of thing that is broken. A new module is entered in MODULES."""

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import devices, frozen, overload, processes, servers

MODULES = (processes, overload, servers, devices, frozen)
"""In the order in which they are played. Too much at once comes early: the memory that it takes stays with a process,
and only what grows after that is a leak."""

ALL = {one.name: one for module in MODULES for one in vars(module).values() if isinstance(one, Scenario)}
"""By name, in that order."""

__all__ = ["ALL", "MODULES", "Scenario"]
