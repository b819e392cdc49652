"""The lab: real servers as local processes, up and down as one, killed and paused one by one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kalinka_jms.errors import LabError
from kalinka_jms.lab import configuration, jars, network, processes, topics
from kalinka_jms.lab.layout import Layout, Service, default_layout, default_state, from_json
from kalinka_jms.lab.probes import answers
from kalinka_jms.lab.processes import Process
from kalinka_jms.lab.servers import Runtime, prepare
from kalinka_jms.lab.toolchain import java
from kalinka_jms.lab.waiting import wait_until

Say = Callable[[str], None]
_START = 120.0  # seconds for a server until it answers; a slow laptop needs 40
_STOP = 15.0  # seconds for a server to end by itself


@dataclass(frozen=True, slots=True)
class Status:
    """One server now: `state` is running, starting (no answer yet), paused or stopped; no pid when stopped."""

    name: str
    pid: int | None
    host: str
    port: int
    state: str
    ports: dict[str, int]


class Lab:
    """The lab in a layout's directory. Every method that changes it holds the directory's lock.

    All of them raise LabError. `say` takes a line of progress for a human.
    """

    def __init__(self, layout: Layout, say: Say = lambda _: None) -> None:
        self.layout = layout
        self._say = say

    @classmethod
    def at(cls, state: Path | None = None, say: Say = lambda _: None) -> Lab:
        """The lab as it was last brought up in that directory (the usual one by default), else one of the defaults."""
        directory = state or default_state()
        return cls(saved_layout(directory) or default_layout(directory), say)

    @property
    def config_path(self) -> Path:
        """The file with the configuration for this lab, written by `up`."""
        return self.layout.state / "kalinka.toml"

    def config(self) -> str:
        """The configuration for this lab, as TOML."""
        return configuration.toml(self.layout)

    def up(self) -> None:
        """Start what does not run, continue what is paused; returns when all answer and the topics are there."""
        runtimes = self._runtimes()
        with self._locked():
            self._refuse_other()
            self._save()
            paused = [process for process in self._running().values() if process.paused]
            self._continue(paused)
            missing = [service for service in self.layout.services if service.name not in self._running()]
            network.check_addresses(self.layout.addresses)
            network.check_ports(missing)
            self._start(missing, runtimes)
            self._await(self.layout.services)
            topics.create(self.layout)

    def down(self, wipe: bool = False) -> None:
        """End every server of the lab, of whatever profile. Data is kept for the next `up` unless `wipe`."""
        if not self.layout.state.is_dir():
            return
        with self._locked():
            self._stop_all()
            if wipe:
                shutil.rmtree(self.layout.state)

    def reset(self) -> None:
        """Empty the lab: no message, topic or znode stays. It is up again afterwards if it was up before."""
        was_up = bool(self._running())
        self.down(wipe=True)
        if was_up:
            self.up()

    def start(self, names: Sequence[str]) -> None:
        """Start servers on the data they have; returns when they answer. One that runs is left alone."""
        services = self._services(names)
        runtimes = self._runtimes()
        with self._locked():
            running = self._running()
            for service in services:
                if service.name in running and running[service.name].paused:
                    raise LabError(f"{service.name} is paused; continue it: kalinka lab resume {service.name}")
            missing = [service for service in services if service.name not in running]
            network.check_ports(missing)
            self._start(missing, runtimes)
            self._await(services)

    def kill(self, names: Sequence[str]) -> None:
        """End servers as a crash would (SIGKILL); returns when they are gone."""
        with self._locked():
            processes.kill(self.layout.state, self._processes(names))

    def pause(self, names: Sequence[str]) -> None:
        """Freeze servers (SIGSTOP): their connections stay, and nothing answers any more."""
        with self._locked():
            for process in self._processes(names):
                processes.send(process, signal.SIGSTOP)
            self._wait_paused(names)

    def resume(self, names: Sequence[str]) -> None:
        """Continue frozen servers (SIGCONT); returns when they answer."""
        with self._locked():
            self._continue(self._processes(names))
            self._await(self._services(names))

    def status(self) -> list[Status]:
        """Every server of the layout, and whether it answers now."""
        running = self._running()
        return [self._status(service, running.get(service.name)) for service in self.layout.services]

    def status_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {"profile": self.layout.profile, "services": [asdict(status) for status in self.status()]}

    def _status(self, service: Service, process: Process | None) -> Status:
        if process is None:
            state = "stopped"
        elif process.paused:
            state = "paused"
        else:
            state = "running" if answers(service) else "starting"
        pid = process.pid if process else None
        return Status(service.name, pid, service.address, service.port, state, service.ports)

    def _services(self, names: Sequence[str]) -> list[Service]:
        return [self.layout.service(name) for name in names]

    def _running(self) -> dict[str, Process]:
        return processes.running(self.layout.state)

    def _processes(self, names: Sequence[str]) -> list[Process]:
        running = self._running()
        for service in self._services(names):
            if service.name not in running:
                raise LabError(f"{service.name} does not run; start it: kalinka lab start {service.name}")
        return [running[name] for name in names]

    def _runtimes(self) -> dict[str, Runtime]:
        path = java()
        return {kind: Runtime(path, jars.fetch(kind, self._say)) for kind in ("activemq", "kafka", "zookeeper")}

    def _start(self, services: Sequence[Service], runtimes: dict[str, Runtime]) -> None:
        for service in services:
            command = prepare(self.layout, service, runtimes[service.kind])
            pid = processes.spawn(command, self.layout.directory(service), self.layout.log(service))
            self._say(f"{service.name}: started (pid {pid})")

    def _await(self, services: Sequence[Service]) -> None:
        """Return when all of them answer; raises LabError for one that ends, or that does not in time."""
        begin, left = time.monotonic(), list(services)
        while left:
            for service in [service for service in left if answers(service)]:
                left.remove(service)
                self._say(f"{service.name}: answers after {time.monotonic() - begin:.1f} s")
            self._refuse_dead(left)
            if time.monotonic() - begin > _START:
                raise LabError("\n".join(f"{late.name} does not answer:\n{self.tail(late)}" for late in left))
            time.sleep(0.1)

    def _refuse_dead(self, services: Sequence[Service]) -> None:
        running = self._running()
        for service in services:
            if service.name not in running:
                raise LabError(f"{service.name} ended while starting:\n{self.tail(service)}")

    def tail(self, service: Service, lines: int = 12) -> str:
        """The last lines that a server printed, without Java's stack frames."""
        log = self.layout.log(service)
        text = log.read_text(errors="replace") if log.exists() else ""
        return "\n".join([line for line in text.splitlines() if not line.startswith("\tat ")][-lines:])

    def _continue(self, paused: Sequence[Process]) -> None:
        for process in paused:
            processes.send(process, signal.SIGCONT)

    def _wait_paused(self, names: Sequence[str]) -> None:
        def all_paused() -> bool:
            running = self._running()
            return all(name not in running or running[name].paused for name in names)

        if not wait_until(all_paused, 10):
            raise LabError(f"still runs after SIGSTOP: {', '.join(names)}")

    def _stop_all(self) -> None:
        processes.stop(self.layout.state, self._running().values(), _STOP)

    def _refuse_other(self) -> None:
        """A lab of another layout that runs in this directory: its servers would be mistaken for ours."""
        saved = saved_layout(self.layout.state)
        if saved and saved != self.layout and self._running():
            raise LabError(
                f"a {saved.profile} lab at {saved.base_address} runs from {saved.state}; end it first: kalinka lab down"
            )

    def _save(self) -> None:
        (self.layout.state / "lab.json").write_text(json.dumps(self.layout.to_json()))
        self.config_path.write_text(self.config())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time. The lock is on the directory itself: it ends with its holder and leaves no file."""
        self.layout.state.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.layout.state, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def saved_layout(state: Path) -> Layout | None:
    """The layout with which a lab was last brought up in that directory."""
    try:
        return from_json(state, json.loads((state / "lab.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
