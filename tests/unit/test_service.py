"""Start order, stop order, signals, and the end of a service that fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uplink import Uplink

from kalinka_jms import service
from kalinka_jms.config import Settings
from kalinka_jms.errors import ConfigError, RegistryError
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.service import SERVICES, PubService, run
from kalinka_jms.testing.zookeeper import FakeZooKeeper

PATIENCE = 20.0


class Fake:
    """A service that notes what is done to it."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.name = name
        self.waiting_for: tuple[str, ...] = ("a broker",)
        self.turned: float | None = None
        self.failed = False
        self.on_start: Any = lambda: None
        self.on_stop: Any = lambda: None
        self._events = events

    def samples(self) -> list[Sample]:
        return [Sample(catalogue.LINK, (self.name, "dev1"), 1)]

    def start(self) -> None:
        self._events.append(f"start {self.name}")
        self.on_start()

    def stop(self) -> None:
        self._events.append(f"stop {self.name}")
        self.on_stop()


class Host:
    """What `run` finds: fake services, and a session with ZooKeeper that notes its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.services = {name: Fake(name, self.events) for name in SERVICES}
        makers = {name: lambda *_, fake=fake: fake for name, fake in self.services.items()}
        monkeypatch.setattr(service, "_MAKERS", makers)
        monkeypatch.setattr(service, "connect", lambda *_, **__: self)
        monkeypatch.setattr(service, "LOOK", 0.005)
        self.settings: Settings = Uplink().settings
        self.failure: RegistryError | None = None

    connected = True

    def gather(self, *_: object) -> list[object]:
        return []

    def stop(self) -> None:
        self.events.append("stop ZooKeeper")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Host(monkeypatch)
    for number, handler in before.items():
        signal.signal(number, handler)


def raise_soon(number: signal.Signals) -> None:
    threading.Timer(0.02, os.kill, [os.getpid(), number]).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_services_start_in_order_and_stop_the_other_way_round(host: Host, number: signal.Signals) -> None:
    host.services["pub"].on_start = lambda: raise_soon(number)
    assert run(host.settings, ["pub", "sub", "registry"]) == 0
    starts = [f"start {name}" for name in ("registry", "sub", "pub")]
    stops = [f"stop {name}" for name in ("pub", "sub", "registry", "ZooKeeper")]
    assert host.events == starts + stops


def test_only_what_is_named_runs(host: Host) -> None:
    host.services["sub"].on_start = lambda: raise_soon(signal.SIGTERM)
    assert run(host.settings, ["sub"]) == 0
    assert host.events == ["start sub", "stop sub", "stop ZooKeeper"]


def test_a_service_that_fails_ends_them_all_with_a_code(host: Host) -> None:
    host.services["sub"].on_start = lambda: setattr(host.services["sub"], "failed", True)
    assert run(host.settings, SERVICES) == 1
    assert host.events[-4:] == ["stop pub", "stop sub", "stop registry", "stop ZooKeeper"]


def test_so_does_zookeeper_when_it_is_given_up(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.services["pub"].on_start = lambda: setattr(host, "failure", RegistryError("it refused the login"))
    assert run(host.settings, SERVICES) == 1
    assert host.events[-4:] == ["stop pub", "stop sub", "stop registry", "stop ZooKeeper"]
    assert "it refused the login" in caplog.text


def test_what_was_not_started_is_not_stopped(host: Host) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    host.services["sub"].on_start = refuse
    with pytest.raises(RuntimeError):
        run(host.settings, SERVICES)
    assert host.events == ["start registry", "start sub", "stop registry", "stop ZooKeeper"]


def test_one_that_cannot_stop_leaves_the_others_their_end(host: Host) -> None:
    def refuse() -> None:
        raise ValueError("stuck")

    host.services["pub"].on_stop = refuse
    host.services["pub"].on_start = lambda: raise_soon(signal.SIGTERM)
    with pytest.raises(ValueError, match="stuck"):
        run(host.settings, SERVICES)
    assert host.events[-3:] == ["stop sub", "stop registry", "stop ZooKeeper"]


def test_ready_is_told_once_for_each(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kalinka")

    def ready() -> list[str]:
        return [vars(record)["service"] for record in caplog.records if record.message == "ready"]

    def end_when_all_are_ready() -> None:
        pause = threading.Event()
        while len(ready()) < len(SERVICES):
            pause.wait(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    for fake in host.services.values():
        fake.waiting_for = ()
    host.services["pub"].on_start = threading.Thread(target=end_when_all_are_ready, daemon=True).start
    assert run(host.settings, SERVICES) == 0
    assert sorted(ready()) == sorted(SERVICES)


def notified(address: Path) -> socket.socket:
    """The end that systemd has of the socket."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(str(address))
    end.settimeout(PATIENCE)
    return end


def end_when_heard(end: socket.socket, wanted: str, heard: list[str]) -> Callable[[], None]:
    def listen() -> None:
        while wanted not in heard:
            heard.append(end.recv(1000).decode())
        os.kill(os.getpid(), signal.SIGTERM)

    return threading.Thread(target=listen, daemon=True).start


def test_systemd_hears_of_the_start_of_life_and_of_the_end(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    for fake in host.services.values():
        fake.waiting_for = ()
    heard: list[str] = []
    with notified(tmp_path / "notify") as end:
        host.services["pub"].on_start = end_when_heard(end, "WATCHDOG=1", heard)
        assert run(host.settings, SERVICES) == 0
        while "STOPPING=1" not in heard:
            heard.append(end.recv(1000).decode())
    assert heard[:3] == ["READY=1", "STATUS=ready", "WATCHDOG=1"]


def test_a_service_that_stands_still_gives_no_sign_of_life(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setattr(service, "START", 0.0)  # and systemd is not kept waiting for what it cannot mend
    host.services["sub"].turned = time.monotonic() - 1000
    heard: list[str] = []
    with notified(tmp_path / "notify") as end:
        waiting = "STATUS=waiting for a broker, a broker, a broker"
        host.services["pub"].on_start = end_when_heard(end, waiting, heard)
        assert run(host.settings, SERVICES) == 0
        while "STOPPING=1" not in heard:
            heard.append(end.recv(1000).decode())
    assert heard == ["READY=1", waiting, "STOPPING=1"]


def test_metrics_and_health_are_served_where_asked_for(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kalinka")
    found: dict[str, int] = {}

    def look() -> None:
        (address,) = (vars(record)["address"] for record in caplog.records if record.message == "metrics")
        for path in ("/metrics", "/healthz", "/readyz"):
            try:
                with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
                    found[path] = answer.status
            except urllib.error.HTTPError as error:
                found[path] = error.code
        raise_soon(signal.SIGTERM)

    host.services["pub"].on_start = look
    assert run(host.settings, SERVICES, ("127.0.0.1", 0)) == 0
    assert found == {"/metrics": 200, "/healthz": 200, "/readyz": 503}


def test_a_port_that_is_taken_is_told_before_anything_starts(host: Host) -> None:
    refused = pytest.raises(ConfigError, match=r"--metrics = .*cannot be taken: Address already in use")
    with socket.create_server(("127.0.0.1", 0)) as taken, refused:
        run(host.settings, SERVICES, taken.getsockname())
    assert host.events == []


def test_a_secret_of_zookeeper_that_cannot_be_read_is_a_mistake_in_the_configuration(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise ValueError("the file /run/secret does not exist")

    monkeypatch.setattr(service, "connect", unreadable)
    with pytest.raises(ConfigError, match="/run/secret"):
        run(host.settings, SERVICES)


def test_a_second_signal_ends_the_process_at_once() -> None:
    program = """
import os, signal, threading
from kalinka_jms import service
stop = threading.Event()
service._on_signals(stop)
os.kill(os.getpid(), signal.SIGTERM)
stop.wait(10)
print("draining", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
threading.Event().wait(10)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE, check=False)
    assert ended.stdout == b"draining\n"
    assert ended.returncode == -signal.SIGTERM


def test_a_signal_shows_where_every_thread_stands_and_nothing_else_happens() -> None:
    program = """
import os, signal, threading
from kalinka_jms import service
service._on_signals(threading.Event())
threading.Thread(target=threading.Event().wait, name="stuck", daemon=True).start()
os.kill(os.getpid(), signal.SIGUSR1)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0
    assert ended.stderr.count("most recent call first") == 2 and "in wait" in ended.stderr


def test_pub_says_in_zookeeper_where_it_stands_by_and_leaves_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from kalinka_jms.pub import members

    monkeypatch.setattr(members, "PERIOD", 0.005)
    zookeeper = FakeZooKeeper()
    zookeeper.ensure("/kalinka/devices")
    with Uplink() as up:
        client: Any = zookeeper.client()
        pub = PubService(up.settings, client)
        assert pub.waiting_for == ("the broker dev1, or Kafka",)
        pub.start()
        up.wait(lambda: not pub.waiting_for)
        up.wait(lambda: "/kalinka/pub/dev1" in zookeeper.znodes and len(zookeeper.children("/kalinka/pub/dev1")) == 1)
        sent = up.publish(100)
        up.finish()
        pub.stop()
        assert not pub.failed
        assert up.values() == sent
        assert not pub._members._thread.is_alive()


def test_pub_that_fails_says_so() -> None:
    with Uplink() as up:
        pub = PubService(up.settings, FakeZooKeeper().client())  # type: ignore[arg-type]
        pub._pub._brokers[0].failure = ZeroDivisionError()
        assert pub.failed
