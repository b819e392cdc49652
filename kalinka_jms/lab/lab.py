"""The lab: real servers as local processes, up and down as one, killed and paused one by one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kalinka_jms.config import load
from kalinka_jms.errors import LabError
from kalinka_jms.lab import configuration, directory, jars, network, processes, topics
from kalinka_jms.lab.layout import Kind, Layout, Service, default_layout, default_state
from kalinka_jms.lab.logs import messages
from kalinka_jms.lab.probes import answers
from kalinka_jms.lab.processes import Process
from kalinka_jms.lab.servers import Runtime, prepare
from kalinka_jms.lab.toolchain import java
from kalinka_jms.lab.waiting import wait_until

Say = Callable[[str], None]
_START = 180.0  # seconds for a server until it answers; two busy cores need 40
_STOP = 30.0  # seconds for a server to end by itself


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
    """The lab in a layout's directory. Methods that change it wait for each other, also across processes.

    All of them raise LabError. `say` takes a line of progress for a human.
    """

    def __init__(self, layout: Layout, say: Say = lambda _: None) -> None:
        self.layout = layout
        self._say = say

    @classmethod
    def at(cls, state: Path | None = None, say: Say = lambda _: None) -> Lab:
        """The lab that is up in that directory (the usual one by default), else one of the defaults."""
        place = state or default_state()
        return cls(directory.saved_layout(place) or default_layout(place), say)

    @property
    def config_path(self) -> Path:
        """The file with the configuration for this lab, written by `up`."""
        return self.layout.state / directory.CONFIG

    def config(self, delivery: str = "broker") -> str:
        """The configuration for this lab, as TOML. `delivery` is that of its down routes: "device" needs a layout with
        `delivery_device`. The file at `config_path` always says "broker"."""
        return configuration.toml(self.layout, delivery)

    def up(self) -> None:
        """Start what does not run, continue what is paused; returns when all answer and the topics are there."""
        runtimes = self._runtimes()
        with self._locked():
            self._clear()
            running = self._running()
            missing = [service for service in self.layout.services if service.name not in running]
            network.check_addresses(self.layout.addresses)
            network.check_ports(missing)
            directory.save(self.layout, self.config())
            self._continue(process for process in running.values() if process.paused)
            self._start(missing, runtimes)
            self._await(self.layout.services)
            topics.create(self.layout, load(self.config_path))

    def down(self, wipe: bool = False) -> None:
        """End every server of the lab, of whatever profile. Its data stays for the next `up`, unless `wipe`."""
        if not self.layout.state.is_dir() and not self._running():
            return
        with self._locked():
            processes.stop(self.layout.state, self._running().values(), _STOP)
            directory.forget(self.layout.state)
            if wipe:
                directory.wipe(self.layout.state)

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
            for name in names:
                if name in running and running[name].paused:
                    raise LabError(f"{name} is paused; continue it: kalinka lab resume {name}")
            missing = [service for service in services if service.name not in running]
            network.check_addresses(service.address for service in missing)
            network.check_ports(missing)
            directory.save(self.layout, self.config())
            self._start(missing, runtimes)
            self._await(services)

    def kill(self, names: Sequence[str]) -> None:
        """End servers as a crash would (SIGKILL); returns when they are gone."""
        with self._locked():
            processes.kill(self.layout.state, self._processes(names))

    def pause(self, names: Sequence[str]) -> None:
        """Freeze servers (SIGSTOP): their connections stay, and nothing answers any more."""
        with self._locked():
            processes.pause(self.layout.state, self._processes(names))

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

    def _locked(self) -> AbstractContextManager[None]:
        return directory.locked(self.layout.state, self._say)

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

    def _runtimes(self) -> dict[Kind, Runtime]:
        path = java()
        kinds: tuple[Kind, ...] = ("activemq", "kafka", "zookeeper")
        return {kind: Runtime(path, jars.fetch(kind, self._say)) for kind in kinds}

    def _clear(self) -> None:
        """Servers that run here are this lab's, or left from one whose directory was deleted, or refused."""
        saved = directory.saved_layout(self.layout.state)
        left = self._running()
        if saved is None:
            processes.stop(self.layout.state, left.values(), _STOP)
        elif saved != self.layout and left:
            raise LabError(
                f"a {saved.profile} lab at {saved.base_address} runs from {saved.state}; end it first: kalinka lab down"
            )

    def _start(self, services: Sequence[Service], runtimes: dict[Kind, Runtime]) -> None:
        for service in services:
            command = prepare(self.layout, service, runtimes[service.kind])
            pid = processes.spawn(command, self.layout.directory(service), self.layout.log(service))
            self._say(f"{service.name}: started (pid {pid})")

    def _continue(self, paused: Iterable[Process]) -> None:
        for process in paused:
            processes.send(process, signal.SIGCONT)
            self._say(f"{process.service}: continued (pid {process.pid})")

    def _await(self, services: Sequence[Service]) -> None:
        """Return when all of them answer; raises LabError for one that ends, or that does not in time."""
        begin, left = time.monotonic(), list(services)

        def all_answer() -> bool:
            for service in [service for service in left if answers(service)]:
                left.remove(service)
                self._say(f"{service.name}: answers after {time.monotonic() - begin:.1f} s")
            self._refuse_dead(left)
            return not left

        if not wait_until(all_answer, _START):
            late = "\n".join(f"{service.name}:\n{messages(self.layout.log(service))}" for service in left)
            raise LabError(f"no answer within {_START:.0f} s from {late}")

    def _refuse_dead(self, services: Sequence[Service]) -> None:
        """Raises LabError for one that ended."""
        running = self._running()
        for service in services:
            if service.name not in running:
                said = messages(self.layout.log(service))
                raise LabError(f"{service.name} ended while starting:\n{said}")
