"""Apache Camel as a process of its own: started once, warmed up, and held (SIGSTOP) while others are measured."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from kalinka_jms.errors import LabError
from kalinka_jms.lab.instances import tail
from kalinka_jms.lab.jars import cache
from kalinka_jms.lab.toolchain import java, maven
from kalinka_jms.lab.waiting import wait_until

HERE = Path(__file__).parent
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_STARTED = re.compile(r"Apache Camel .* started in ")
_FACTORY = "org.apache.activemq.ActiveMQConnectionFactory"
_POOL = "org.messaginghub.pooled.jms.JmsPoolConnectionFactory"


def version() -> str:
    """The version of Camel, as the pom says it."""
    match = re.search(r"<camel.version>(.*?)<", (HERE / "pom.xml").read_text())
    assert match
    return match[1]


def jars() -> Path:
    """The directory with Camel's jars, fetched by Maven if it is not there. Raises LabError."""
    pom = HERE / "pom.xml"
    target = cache() / f"camel-{version()}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:8]}"
    if not target.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".camel-", dir=cache()) as work:
            shutil.copy(pom, work)
            command = [maven(), "-B", "-q", "-f", f"{work}/pom.xml", _COPY, "-DincludeScope=runtime"]
            done = subprocess.run([*command, f"-DoutputDirectory={work}/jars"], capture_output=True, text=True)
            if done.returncode:
                raise LabError(f"Maven could not fetch Camel:\n{done.stdout[:2000]}")
            Path(work, "jars").rename(target)
    return target


class Camel:
    """One Camel with one route (`up` or `down`); `settings` are the placeholders in it."""

    def __init__(self, route: str, openwire: str, settings: Mapping[str, str], log: Path) -> None:
        """`openwire` is the broker as host:port. Raises LabError when it does not start."""
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                _command(route, openwire, settings), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        wait_until(lambda: self.started or self._process.poll() is not None, 60)
        if not self.started:
            self.stop()
            raise LabError(f"Camel does not start:\n{tail(log)}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def started(self) -> bool:
        """It has said so."""
        return _STARTED.search(self._log.read_text(errors="replace")) is not None

    def hold(self) -> None:
        """Keep it from doing anything."""
        self._process.send_signal(signal.SIGSTOP)

    def go(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _command(route: str, openwire: str, settings: Mapping[str, str]) -> list[str]:
    # without the inactivity monitor: one that is held for minutes would be taken for dead
    url = f"tcp://{openwire}?wireFormat.maxInactivityDuration=0"
    beans = {
        "camel.main.routesIncludePattern": f"file:{HERE / route}.yaml",
        "camel.beans.broker": f"#class:{_FACTORY}",
        "camel.beans.broker.brokerURL": url,
        "camel.beans.pool": f"#class:{_POOL}",
        "camel.beans.pool.connectionFactory": "#bean:broker",
        "camel.component.jms.connectionFactory": "#bean:pool" if route == "down" else "#bean:broker",
        "org.slf4j.simpleLogger.defaultLogLevel": "warn",
        "org.slf4j.simpleLogger.log.org.apache.camel": "info",
    }
    options = [f"-D{key}={value}" for key, value in {**beans, **settings}.items()]
    return [java(), "-Xmx512m", *options, "-cp", f"{jars()}/*", "org.apache.camel.main.Main"]
