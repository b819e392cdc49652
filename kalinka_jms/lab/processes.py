"""The server processes of a lab, found by what they were started with.

The process table is the only truth: every server carries its lab's directory and its own name on its command line. A
file with a pid would be wrong after a reboot, and missing where a terminal died between the start and the writing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kalinka_jms.errors import LabError
from kalinka_jms.lab.waiting import wait_until

_LAB, _SERVICE = "-Dkalinka.lab=", "-Dkalinka.service="
_PROC = Path("/proc")
_children: list[subprocess.Popen[bytes]] = []  # of this process: waited for, so that none stays a zombie


@dataclass(frozen=True, slots=True)
class Process:
    """A running server: its service's name, its pid, and whether it is stopped by a signal (paused)."""

    service: str
    pid: int
    paused: bool


def marks(state: Path, service: str) -> list[str]:
    """The JVM arguments by which `running` finds a server again."""
    return [f"{_LAB}{state}", f"{_SERVICE}{service}"]


def running(state: Path) -> dict[str, Process]:
    """The live servers of the lab in that directory, by service."""
    _children[:] = [child for child in _children if child.poll() is None]
    found = {}
    for pid, status, command, blank in _labs():
        _, marked, rest = command.partition(blank.join(["", *marks(state, "")]))
        if marked and status not in "ZX":
            name = rest.partition(blank)[0]
            found[name] = Process(name, pid, status in "Tt")
    return found


def spawn(command: Sequence[str], directory: Path, log: Path) -> int:
    """Start a server that outlives this process and its terminal; its pid. What it prints goes to `log`.

    Returns when its command line can be read, and so `running` finds it: for a moment after its start it is empty.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(child)
    wait_until(lambda: child.poll() is not None or any(pid == child.pid for pid, *_ in _labs()), 60)
    return child.pid


def send(process: Process, number: signal.Signals) -> None:
    """Signal a server; one that is gone is no error."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise LabError(f"{process.service} (pid {process.pid}) belongs to another user") from None


def stop(state: Path, processes: Iterable[Process], patience: float) -> None:
    """End servers: ask them, and after `patience` seconds end those that are left. Returns when all are gone."""
    asked = list(processes)
    for process in asked:
        send(process, signal.SIGTERM)
        send(process, signal.SIGCONT)  # a paused one would never see it
    pids = {process.pid for process in asked}
    if not wait_until(lambda: _gone(state, pids), patience):
        kill(state, _left(state, pids))


def kill(state: Path, processes: Iterable[Process]) -> None:
    """End servers at once (SIGKILL). Returns when all are gone."""
    asked = list(processes)
    for process in asked:
        send(process, signal.SIGKILL)
    pids = {process.pid for process in asked}
    if not wait_until(lambda: _gone(state, pids), 30):
        raise LabError(f"still there after SIGKILL: {', '.join(map(str, pids))}")


def pause(state: Path, processes: Iterable[Process]) -> None:
    """Freeze servers (SIGSTOP). Returns when all of them stand still."""
    asked = list(processes)
    for process in asked:
        send(process, signal.SIGSTOP)
    pids = {process.pid for process in asked}
    if not wait_until(lambda: all(process.paused for process in _left(state, pids)), 10):
        raise LabError(f"still running after SIGSTOP: {', '.join(map(str, pids))}")


def _left(state: Path, pids: set[int]) -> list[Process]:
    return [process for process in running(state).values() if process.pid in pids]


def _gone(state: Path, pids: set[int]) -> bool:
    """Whether all have ended and the system has taken back their sockets: threads of a dying process hold those for a
    moment after its command line is empty (tried)."""
    return not _left(state, pids) and all(map(_over, pids))


def _over(pid: int) -> bool:
    if sys.platform != "linux":
        return True
    process = _PROC / str(pid)
    try:
        status = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return status in "ZX" and len(list((process / "task").iterdir())) <= 1
    except OSError:
        return True


def _labs() -> Iterator[tuple[int, str, str, str]]:
    """(pid, state letter, command, what parts its arguments) of every process of a lab that we may see into."""
    return _from_proc() if sys.platform == "linux" else _from_ps()


def _from_proc() -> Iterator[tuple[int, str, str, str]]:
    ours = (_PROC / "self/ns/pid").readlink()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = os.fsdecode((entry / "cmdline").read_bytes())
            status = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if _LAB not in command or (entry / "ns/pid").readlink() != ours:
                continue  # a container's lab may have the same directory inside it
        except OSError:
            continue
        yield int(entry.name), status, command, "\0"


def _from_ps() -> Iterator[tuple[int, str, str, str]]:
    """Where there is no /proc (macOS)."""
    listing = subprocess.run(["ps", "-axww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, status, command = line.split(None, 2)
        if _LAB in command:
            yield int(pid), status[0], command, " "
