"""`kalinka broker-config`: the configuration for a broker of your own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Option(help="The broker's name, different for each of your brokers.")]
Host = Annotated[str, typer.Option(help="The address it listens on; 0.0.0.0 for all of the machine's.")]
Data = Annotated[str, typer.Option(help="Where it keeps its messages.")]
PortItems = Annotated[
    list[str] | None, typer.Option("--port", help="Another port for one protocol, such as mqtt=1884.")
]
Device = Annotated[
    bool, typer.Option("--delivery-device", help='Also what routes with delivery = "device" need; it costs throughput.')
]
Tls = Annotated[bool, typer.Option("--tls", help="TLS on all connectors, with conf/broker.p12; see docs/security.md.")]
Devices = Annotated[
    Path | None,
    typer.Option(help="Logins and rights for the devices in this file, one name a line; - for standard input."),
]
User = Annotated[str, typer.Option(help="Kalinka's own user, where there are logins.")]
MaxMessageBytes = Annotated[
    int, typer.Option(min=1000, help="max.message.bytes of your Kafka topics: no device can publish more than fits.")
]


def broker_config(
    name: Name,
    host: Host = "0.0.0.0",
    data: Data = "${activemq.data}",
    port: PortItems = None,
    device: Device = False,
    tls: Tls = False,
    devices: Devices = None,
    user: User = "kalinka",
    max_message_bytes: MaxMessageBytes = 1_048_588,
) -> None:
    """Print an activemq.xml for ActiveMQ Classic 6.3 as Kalinka needs it; each line says what breaks without it.

    Example: kalinka broker-config --name dev1 --host 10.0.0.5 > apache-activemq/conf/activemq.xml
    """
    from kalinka_jms.errors import LabError
    from kalinka_jms.lab.guard import Guard
    from kalinka_jms.lab.layout import parse_ports
    from kalinka_jms.lab.servers import broker_xml

    if not re.fullmatch(r"[\w.:-]+", name, re.ASCII):
        raise typer.BadParameter("letters, digits, . _ : and - only: ActiveMQ replaces others", param_hint="--name")
    try:
        ports = parse_ports(port or [])
    except LabError as error:
        raise typer.BadParameter(str(error), param_hint="--port") from None
    try:
        guard = Guard(tls=tls, devices=None if devices is None else _names(devices), user=user)
    except (LabError, OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(str(error), param_hint="--devices") from None
    typer.echo(broker_xml(name, host, data, ports, device, guard, max_message_bytes), nl=False)


def _names(file: Path) -> list[str]:
    """The lines of a file that are neither blank nor comments."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
