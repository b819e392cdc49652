"""Who runs the bridge in a demo: this machine, or somebody else, whose bridge runs already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

from kalinka_jms.errors import LabError
from kalinka_jms.lab.instances import Instances


class Crew(Protocol):
    """Has the bridge ready, lets an instance die, and ends what it started; leaving the context ends that, too.

    `begins` and `ends` say what it does at first and at last, for people.
    """

    begins: str
    ends: str

    def gather(self, services: Sequence[str]) -> None:
        """See to it that instances of all services are ready. Raises LabError."""

    def kill(self, service: str) -> str:
        """Let one instance of a service die (SIGKILL); says which one."""

    def stop(self) -> None:
        """End in order what it started. Raises LabError when something did not end cleanly."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None: ...


class OwnCrew:
    """Two instances of each service as processes of this machine, or as what `instances` makes of them."""

    begins = "starting two instances of each service"
    ends = "stopping the bridge"

    def __init__(self, config: Path, logs: Path, instances: Callable[[Path, Path], Instances] = Instances) -> None:
        self._logs = logs
        self._instances = instances(config, logs)

    def gather(self, services: Sequence[str]) -> None:
        for service in services:
            self._instances.start(service, 2)
        self._instances.wait_ready()

    def kill(self, service: str) -> str:
        victim = self._instances.of(service)[0]
        victim.kill()
        return f"killed {victim.name} (SIGKILL, process {victim.pid})"

    def stop(self) -> None:
        unclean = [f"{name} with {code}" for name, code in self._instances.stop().items() if code]
        if unclean:
            raise LabError(f"did not stop cleanly: {', '.join(unclean)}; logs in {self._logs}")

    def __enter__(self) -> Self:
        self._instances.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        self._instances.__exit__(kind, error, *rest)
