"""The bridge under test: instances of every service, which of them is at work, and the memory that each takes."""

from __future__ import annotations

import json
import signal
import sys
from collections import defaultdict
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from kalinka_jms.errors import LabError
from kalinka_jms.lab.instances import COMMAND, METRICS_ANYWHERE, Instance, Instances
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.identity import check, total

SERVICES = ("registry", "sub", "pub")
AT_WORK = {"pub": "active on a broker", "registry": "watching"}
"""What an instance logs when a broker's queues, or the office of its watcher, have come to it."""


SCRAPE = 2.0
"""Seconds that a process has to answer a scrape."""


class Bridge:
    """Two instances of each service, kept at two: what was killed is replaced by `heal`."""

    def __init__(self, config: Path, logs: Path, sabotage: str = "", each: int = 2) -> None:
        """`sabotage`: the name of a mistake that it shall have."""
        command = (sys.executable, "-m", "tests.chaos.sabotage", sabotage) if sabotage else COMMAND
        self.each = each
        self.instances = Instances(config, logs, command, METRICS_ANYWHERE)
        self.scrapes = 0
        self._urls: dict[str, str] = {}
        self._books: dict[str, str] = {}
        self._memory: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)

    def start(self) -> None:
        """Start every service; returns when all are ready."""
        for service in SERVICES:
            self.instances.start(service, self.each)
        self.instances.wait_ready()

    def heal(self) -> None:
        """Start what is missing, and wait until all are ready."""
        for service in SERVICES:
            self.instances.start(service, max(0, self.each - len(self.instances.of(service))))
        self.instances.wait_ready()

    def of(self, service: str) -> list[Instance]:
        """The running instances of a service, oldest first."""
        return self.instances.of(service)

    def all(self) -> list[Instance]:
        """Everything that runs."""
        return [instance for service in SERVICES for instance in self.of(service)]

    def active(self, service: str, broker: str) -> Instance:
        """The instance of `pub` or `registry` that is at work on a broker. Raises LabError where there is none."""
        found: list[Instance] = []

        def look() -> bool:
            times = {one.name: _last(one, AT_WORK[service], broker) for one in self.of(service)}
            running = [one for one in self.of(service) if times[one.name]]
            found[:] = sorted(running, key=lambda one: times[one.name])[-1:]
            return bool(found)

        if not wait_until(look, 30):
            raise LabError(f"no instance of {service} is at work on {broker}")
        return found[0]

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; their exit codes."""
        return self.instances.stop(timeout=60)

    def kill(self) -> None:
        """End all that still run, however they stand."""
        for instance in self.all():
            instance.signal(signal.SIGCONT)
        self.instances.kill(self.all())

    # -- metrics

    def audit(self) -> list[str]:
        """Scrape every process: where its books do not balance, in words. One that does not answer is passed over."""
        found: list[str] = []
        for instance in self.all():
            url = self._urls.get(instance.name) or instance.metrics
            self._urls[instance.name] = url
            text = _scrape(url) if url else None
            if text is not None and instance.running:  # else a new process may have its port, and have answered
                self.scrapes += 1
                found += [f"{instance.name}: {fault}" for fault in check(text, self._books.get(instance.name, ""))]
                self._books[instance.name] = text
        return found

    def in_flight(self, instance: Instance) -> float:
        """Records that a `sub` holds without an outcome; 0 where it does not answer."""
        return total(_scrape(instance.metrics) or "", catalogue.DOWN_IN_FLIGHT)

    def inquire(self) -> list[str]:
        """What each process says of itself; where each of its threads stands comes into its log."""
        serving = [one for one in self.all() if one.metrics]  # one that has just been started would die of the signal
        for instance in serving:
            instance.signal(signal.SIGUSR1)
        return [f"{one.name}: {_word(one.metrics.removesuffix('/metrics') + '/readyz')}" for one in serving]

    # -- memory

    def weigh(self, now: float) -> None:
        """Note how much memory each process has now."""
        for instance in self.all():
            self._memory[instance.name].append((now, resident(instance.pid)))

    def memory(self, since: float) -> dict[str, list[int]]:
        """Bytes of resident memory of each process, as they were noted since then."""
        return {name: [size for at, size in notes if at >= since] for name, notes in self._memory.items()}


def _scrape(url: str) -> str | None:
    """What it says; None where the process is dead or stopped."""
    try:
        with urlopen(url, timeout=SCRAPE) as answer:
            return bytes(answer.read()).decode()
    except OSError:
        return None


def _word(url: str) -> str:
    """What it says of itself, in a line, ready or not."""
    try:
        with urlopen(url, timeout=SCRAPE) as answer:
            text = answer.read()
    except HTTPError as error:
        text = error.read()
    except (OSError, HTTPException):
        return "no answer"
    return " ".join(text.decode().split())


def resident(pid: int) -> int:
    """Bytes of resident memory; 0 where the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _last(instance: Instance, message: str, broker: str) -> str:
    """When an instance last logged a message about a broker; empty where it never did."""
    times = [
        str(record.get("time", "?"))
        for record in records(instance.log)
        if record.get("message") == message and record.get("broker") == broker
    ]
    return times[-1] if times else ""


def records(log: Path) -> list[dict[str, object]]:
    """The records of a log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found
