"""What systemd hears, and that nobody is harmed where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalinka_jms.systemd import Systemd


@pytest.fixture(params=["a path", "an abstract address"])
def end(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    abstract = request.param != "a path"
    name = f"kalinka-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{name}" if abstract else name)
        made.settimeout(10)
        yield (f"@{name}" if abstract else name), made


def drained(end: socket.socket) -> list[str]:
    end.setblocking(False)
    heard = []
    while True:
        try:
            heard.append(end.recv(1000).decode())
        except BlockingIOError:
            return heard


def test_it_hears_each_state_in_a_datagram_of_its_own(end: tuple[str, socket.socket]) -> None:
    name, heard = end
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.ready()
    systemd.status("waiting for dev2")
    systemd.status("waiting for dev2")
    systemd.status("ready")
    systemd.stopping()
    assert drained(heard) == ["READY=1", "STATUS=waiting for dev2", "STATUS=ready", "STOPPING=1"]


def test_signs_of_life_come_twice_in_the_time_that_it_allows(tmp_path: Path) -> None:
    times = iter((0.0, 0.9, 1.0, 1.5, 2.1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        systemd = Systemd(environ | {"WATCHDOG_PID": str(os.getpid())}, lambda: next(times))
        for _ in range(5):
            systemd.alive()
        assert drained(heard) == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"},
    ],
)
def test_where_it_does_not_watch_no_sign_is_given(environ: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        Systemd(environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}).alive()
        assert drained(heard) == []


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    systemd = Systemd(environ | {"WATCHDOG_USEC": "1"})
    systemd.ready()
    systemd.alive()
    systemd.stopping()


def test_a_socket_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unread:
        unread.bind(str(tmp_path / "notify"))
        systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(10_000):
            systemd.ready()
