"""The three hosts: reached over ssh, broken and mended by `vagrant/nspawn`; and the bridge that runs on them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from kalinka_jms.errors import LabError
from kalinka_jms.lab.demo import Place
from kalinka_jms.lab.device import MqttBroker
from kalinka_jms.lab.waiting import wait_until

NSPAWN = Path(__file__).parents[2] / "vagrant" / "nspawn"
ADDRESSES = {"dev1": "192.168.33.20", "dev2": "192.168.33.21", "dev3": "192.168.33.22"}
BROKERS = [MqttBroker(name, address) for name, address in ADDRESSES.items()]
BOOTSTRAP = ",".join(f"{address}:9092" for address in ADDRESSES.values())
METRICS = {"pub": 9180, "sub": 9190, "registry": 9200}
"""The port of each service's instances is this plus the instance's number (the role kalinka)."""
INSTANCES = (1, 2)
"""Of each service on each host (the role kalinka)."""

PATIENCE = 240.0
"""Seconds for a host to boot, or its services to be ready, on two busy cores."""


def nspawn(*arguments: str) -> str:
    """Do something to the hosts; what it printed. Raises LabError."""
    told = subprocess.run([str(NSPAWN), *arguments], capture_output=True, text=True, check=False)
    if told.returncode:
        raise LabError(f"nspawn {' '.join(arguments)}: {told.stderr.strip()}")
    return told.stdout


def ready(host: str, service: str, instance: int) -> bool:
    """Whether an instance of a service on a host says that it is."""
    try:
        with urlopen(f"http://{ADDRESSES[host]}:{METRICS[service] + instance}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def await_ready(hosts: Sequence[str], services: Sequence[str]) -> float:
    """Wait until all instances of the services on the hosts are ready; the seconds that took. Raises LabError."""
    begun = time.monotonic()
    wanted = [(host, service, instance) for host in hosts for service in services for instance in INSTANCES]
    if not wait_until(lambda: all(ready(*one) for one in wanted), PATIENCE):
        late = [
            f"kalinka-{service}@{number} on {host}"
            for host, service, number in wanted
            if not ready(host, service, number)
        ]
        raise LabError(f"not ready after {PATIENCE:.0f} s: {', '.join(late)}")
    return time.monotonic() - begun


class HostsCrew:
    """The bridge on the hosts, as units of systemd."""

    begins = "the bridge runs on the hosts"
    ends = "the bridge goes on"

    def gather(self, services: Sequence[str]) -> None:
        await_ready(list(ADDRESSES), services)

    def kill(self, service: str) -> str:
        nspawn("ssh", "dev1", "sudo", "systemctl", "kill", "--signal=KILL", f"kalinka-{service}@1")
        return f"killed kalinka-{service}@1 on dev1 (SIGKILL)"

    def stop(self) -> None:
        await_ready(list(ADDRESSES), list(METRICS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


_NOWHERE = Path("not used: the bridge runs on the hosts")
PLACE = Place(brokers=BROKERS, bootstrap=BOOTSTRAP, config=_NOWHERE, logs=_NOWHERE, crew=HostsCrew())
"""The hosts as a place for the demo."""
