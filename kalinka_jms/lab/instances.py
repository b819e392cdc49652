"""Instances of the bridge's services as processes of their own: started, killed and stopped as in real life."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from kalinka_jms.errors import LabError
from kalinka_jms.lab.waiting import wait_until

COMMAND = (sys.executable, "-m", "kalinka_cli.main")
"""How a service is started: this Python, whatever is first on the path."""

READY = "ready"
"""The message of the log record that says: links up, partitions assigned."""

METRICS = "metrics"
"""The message of the log record that says where metrics are served."""


METRICS_ANYWHERE = ("--metrics", "127.0.0.1:0")
"""Options with which an instance serves its metrics at a free port; `Instance.metrics` tells which."""


class Instance:
    """One process of a service; its output goes to `log`."""

    def __init__(self, service: str, name: str, command: Sequence[str], log: Path) -> None:
        self.service = service
        self.name = name
        self.log = log
        with log.open("wb") as output:
            # A session of its own: Ctrl-C on the terminal is for us, who stop it in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Neither ended nor killed."""
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        """It has logged that it is ready."""
        return any(record.get("message") == READY for record in self._logged())

    @property
    def metrics(self) -> str:
        """The URL of its metrics; empty where it serves none, or not yet."""
        return next((f"http://{one['address']}/metrics" for one in self._logged() if one.get("message") == METRICS), "")

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until it is ready. Raises LabError, with the end of its log, when it is not or has ended."""
        wait_until(lambda: self.ready or not self.running, timeout)
        if not self.ready or not self.running:
            state = "is not ready" if self.running else f"ended with {self._process.returncode}"
            raise LabError(f"{self.name} {state} (waited up to {timeout:.0f} s):\n{tail(self.log)}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal (SIGSTOP, SIGCONT, SIGTERM, …)."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def _logged(self) -> Iterator[dict[str, Any]]:
        """The records of its log."""
        return (record for line in self.log.read_text(errors="replace").splitlines() if (record := _record(line)))

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and its exit code. Raises LabError when it does not end in time (it is killed then)."""
        self._process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end, and return its exit code. Raises LabError when it does not end in time."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.name} did not stop within {timeout} s:\n{tail(self.log)}") from None


class Instances:
    """The instances of one configuration; leaving the context stops all that still run."""

    def __init__(self, config: Path, logs: Path, command: Sequence[str] = COMMAND, options: Sequence[str] = ()) -> None:
        """`options` go to every service, such as METRICS_ANYWHERE."""
        self.config = config
        self._options = tuple(options)
        self.logs = logs
        self.all: list[Instance] = []
        self._command = tuple(command)
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, service: str, count: int = 1) -> list[Instance]:
        """Start `count` more instances of a service; does not wait for them."""
        return [self._start(service) for _ in range(count)]

    def of(self, service: str) -> list[Instance]:
        """The running instances of a service, oldest first."""
        return [instance for instance in self.all if instance.service == service and instance.running]

    def wait_ready(self, timeout: float = 120.0) -> None:
        """Wait until all running instances are ready (5 s on an idle machine); LabError when one is not in time."""
        for instance in self._running():
            instance.wait_ready(timeout)

    def stop(self, timeout: float = 30.0) -> dict[str, int]:
        """SIGTERM to all at once; the exit code of each that was still running."""
        running = self._running()
        for instance in running:
            instance.signal(signal.SIGTERM)
        try:
            return {instance.name: instance.wait(timeout) for instance in running}
        finally:
            self.kill(running)

    def kill(self, instances: Iterable[Instance]) -> None:
        """SIGKILL those that still run."""
        for instance in instances:
            if instance.running:
                instance.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, *rest: object) -> None:
        if error is None:
            self.stop()
        else:
            self.kill(self.all)

    def _start(self, service: str) -> Instance:
        name = f"{service}-{sum(instance.service == service for instance in self.all) + 1}"
        command = (*self._command, service, "--config", str(self.config), *self._options)
        instance = Instance(service, name, command, self.logs / f"{name}.log")
        self.all.append(instance)
        return instance

    def _running(self) -> list[Instance]:
        return [instance for instance in self.all if instance.running]


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _record(line: str) -> dict[str, Any]:
    """A line of a log; empty where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
