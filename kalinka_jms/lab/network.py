"""Addresses and ports before a start: are they there, are they free, and who holds them."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kalinka_jms.errors import LabError
from kalinka_jms.lab.layout import Service

_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


def check_addresses(addresses: Iterable[str]) -> None:
    """Raise LabError, with the commands that make them, unless every address belongs to this machine."""
    missing = [address for address in addresses if not _bindable(address)]
    if missing:
        commands = "\n".join(f"  {alias_command(address, sys.platform)}" for address in missing)
        raise LabError(f"this machine does not have {', '.join(missing)} yet. Make them:\n{commands}")


def alias_command(address: str, platform: str) -> str:
    """The command that gives the machine an address."""
    if platform == "darwin":
        return f"sudo ifconfig lo0 alias {address} up"
    return f"sudo ip address add {address}/32 dev lo"


def check_ports(services: Iterable[Service]) -> None:
    """Raise LabError, naming each port, its service and its holder, unless every port is free."""
    taken = [(service, name, port) for service in services for name, port in service.ports.items()]
    taken = [(service, name, port) for service, name, port in taken if not is_free(service.address, port)]
    if taken:
        lines = [
            f"  {service.name}: {name} port {service.address}:{port} is taken by {holder(service.address, port)}"
            for service, name, port in taken
        ]
        advice = f"stop it, or choose another: --port {taken[0][1]}=NUMBER or --base-address ADDRESS"
        raise LabError("\n".join(["the lab cannot start:", *lines, advice]))


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise LabError(f"cannot listen on {address}:{port}: {error.strerror}") from None
    return True


def holder(address: str, port: int) -> str:
    """Who listens there, for a human: program and pid where they can be seen."""
    if sys.platform == "linux":
        inodes = set(_listening(address, port))
        owners = [pid for pid in _pids() if inodes & _sockets(pid)]
        return " and ".join(_describe(pid) for pid in owners) or "a process of another user"
    return _by_lsof(port)


def _bindable(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _listening(address: str, port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on the address or on all of them."""
    words = socket.inet_aton(address)[::-1].hex().upper()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            local, state, inode = line.split()[1], line.split()[3], line.split()[9]
            host, _, number = local.partition(":")
            if state == _LISTEN and int(number, 16) == port and (host.endswith(words) or not host.strip("0")):
                yield inode


def _pids() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _sockets(process: Path) -> set[str]:
    found = set()
    try:
        for handle in (process / "fd").iterdir():
            link = str(handle.readlink())
            if link.startswith("socket:["):
                found.add(link[8:-1])
    except OSError:
        pass  # another user's, or gone meanwhile
    return found


def _describe(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    service = next((word.partition("=")[2] for word in words if word.startswith("-Dkalinka.service=")), "")
    lab = next((word.partition("=")[2] for word in words if word.startswith("-Dkalinka.lab=")), "")
    known = f"{service} of the lab in {lab}" if lab else Path(words[0]).name
    return f"{known} (pid {process.name})"


def _by_lsof(port: int) -> str:
    if not shutil.which("lsof"):
        return "another process"
    told = subprocess.run(["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN"], capture_output=True, text=True, check=False)
    lines = told.stdout.splitlines()[1:]
    return " and ".join(f"{line.split()[0]} (pid {line.split()[1]})" for line in lines) or "another process"
