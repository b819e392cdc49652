"""`python -m tests.bench.heap`: what a device costs on its broker's heap, and what each link that writes to it adds.

Devices listen at one broker of a lab of its own; then one link after another connects, writes to each of them, and
leaves, as when `kalinka sub` is restarted. The heap is counted after a full collection (`jcmd`, of a JDK). `--audit`
leaves out what `broker-config` says against the audit of duplicates.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kalinka_jms.config import Broker, load
from kalinka_jms.lab import servers
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.sends import Send, encode, send_prefix
from tests.bench.devices import Devices

PATIENCE = 120.0
_OFF = ' enableAudit="false"'


def heap(pid: int) -> int:
    """Bytes of live objects of a Java process."""
    command = ("jcmd", str(pid), "GC.class_histogram")
    histogram = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(histogram.split()[-1])


def write(broker: Broker, devices: Devices, rounds: int) -> None:
    """One link writes that many messages to each of the devices."""
    target = devices.received + rounds * len(devices.names)
    sends = [Send(send_prefix(f"sparkcluster.mqtt.{name}.sub", 1), b"x") for name in devices.names]
    link = Link(broker, lambda _: None)
    link.connect()
    for number in range(rounds):
        link.write(encode(link.identity, number + 1, sends, []))
    assert wait_until(lambda: devices.received >= target, PATIENCE), f"{devices.received} of {target} messages"
    link.disconnect()


def run(lab: Lab, options: argparse.Namespace) -> None:
    broker = load(lab.config_path).brokers[0]
    pid = next(status.pid or 0 for status in lab.status() if status.name == f"{broker.name}.activemq")
    empty = heap(pid)
    devices = Devices(options.devices, [broker.host])
    try:
        assert wait_until(lambda: devices.ready, PATIENCE), f"{devices.connected} devices listen"
        _print("with a subscription", heap(pid) - empty, options.devices)
        for number in range(1, options.links + 1):
            write(broker, devices, options.messages)
            if number in (1, 10, options.links):
                _print(f"after {number} links", heap(pid) - empty, options.devices)
    finally:
        devices.stop()


def _print(title: str, size: int, devices: int) -> None:
    print(f"{title:20} {size / devices / 1000:6.1f} kB a device", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--links", type=int, default=64)
    parser.add_argument("--messages", type=int, default=10, help="to each device, by each link")
    parser.add_argument("--audit", action="store_true", help="as ActiveMQ has it by itself")
    parser.add_argument("--address", default="127.0.51.20", help="the first address of the lab")
    options = parser.parse_args()
    whole = servers.broker_xml

    def broker_xml(*arguments: Any, **named: Any) -> str:
        text = whole(*arguments, **named)
        assert _OFF in text
        return text.replace(_OFF, "") if options.audit else text

    with tempfile.TemporaryDirectory() as folder, patch.object(servers, "broker_xml", broker_xml):
        lab = Lab(Layout(Path(folder) / "lab", "small", options.address), lambda text: print(text, file=sys.stderr))
        lab.up()
        try:
            run(lab, options)
        finally:
            lab.down(wipe=True)


if __name__ == "__main__":
    main()
