"""`kalinka lab`: real servers on this machine to try Kalinka against."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kalinka_jms.lab.lab import Lab
    from kalinka_jms.lab.layout import Layout

app = typer.Typer(no_args_is_help=True)

Services = Annotated[list[str], typer.Argument(help="Names as `kalinka lab status` shows them, such as dev1.kafka.")]
Profile = Annotated[
    str | None, typer.Option(help="small: 3 brokers, 1 Kafka, 1 ZooKeeper. full: 3 of each, replicated.")
]
Base = Annotated[
    str | None, typer.Option(help="The address of dev1; dev2 and dev3 take the two after it. Default: 127.0.33.20.")
]
PortItems = Annotated[
    list[str] | None, typer.Option("--port", help="Another port for one protocol, such as mqtt=1884.")
]
Device = Annotated[
    bool, typer.Option("--delivery-device", help='Brokers that tell what delivery = "device" needs; costs throughput.')
]


@app.callback()
def lab(
    state: Annotated[
        Path | None,
        typer.Option(
            help="The lab's directory; one for each lab. Default: KALINKA_LAB_STATE, else your state directory."
        ),
    ] = None,
) -> None:
    """Real servers on this machine: ActiveMQ, Kafka and ZooKeeper as processes.

    Example: kalinka lab up && kalinka lab config > kalinka.toml && kalinka run --config kalinka.toml
    """
    if state:
        os.environ["KALINKA_LAB_STATE"] = str(state.resolve())


@app.command()
def up(profile: Profile = None, base_address: Base = None, port: PortItems = None, device: Device = False) -> None:
    """Start the servers and return when every one of them answers.

    Example: kalinka lab up --profile full --base-address 127.0.44.20
    """
    lab = _lab(profile, base_address, port, device)
    lab.up()
    typer.echo(f"up. The configuration for it is in {lab.config_path}", err=True)


@app.command()
def down(wipe: Annotated[bool, typer.Option(help="Delete the lab's data and logs as well.")] = False) -> None:
    """End all servers of the lab; its data stays for the next `up`.

    Example: kalinka lab down --wipe
    """
    _lab().down(wipe=wipe)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False) -> None:
    """Show every server: its pid, its address, and whether it answers.

    Example: kalinka lab status --json | jq '.services[] | select(.state != "running")'
    """
    lab = _lab()
    if as_json:
        typer.echo(json.dumps(lab.status_json(), indent=2))
        return
    for one in lab.status():
        ports = ", ".join(f"{name} {number}" for name, number in one.ports.items())
        typer.echo(f"{one.name:16} {one.state:9} {one.pid or '-':>8}  {one.host}  {ports}")


@app.command()
def config(
    profile: Profile = None,
    base_address: Base = None,
    port: PortItems = None,
    device: Annotated[
        bool, typer.Option("--delivery-device", help='Down routes with delivery = "device", for a lab that is up so.')
    ] = False,
) -> None:
    """Print the configuration with which Kalinka's services work against the lab.

    Example: kalinka lab config > kalinka.toml
    """
    typer.echo(_lab(profile, base_address, port).config("device" if device else "broker"), nl=False)


@app.command()
def kill(services: Services) -> None:
    """End servers as a crash would (SIGKILL).

    Example: kalinka lab kill dev2.activemq
    """
    _lab_of(services).kill(services)


@app.command()
def start(services: Services) -> None:
    """Start servers again, on the data they had, and return when they answer.

    Example: kalinka lab start dev2.activemq
    """
    _lab_of(services).start(services)


@app.command()
def pause(services: Services) -> None:
    """Freeze servers (SIGSTOP): they keep their connections and answer nothing.

    Example: kalinka lab pause dev1.zookeeper
    """
    _lab_of(services).pause(services)


@app.command()
def resume(services: Services) -> None:
    """Continue frozen servers (SIGCONT) and return when they answer.

    Example: kalinka lab resume dev1.zookeeper
    """
    _lab_of(services).resume(services)


@app.command()
def reset() -> None:
    """Delete all data of the lab: messages, topics, devices. It is up again afterwards if it was up.

    Example: kalinka lab reset
    """
    _lab().reset()


@app.command()
def logs(
    services: Annotated[list[str] | None, typer.Argument(help="Whose; all servers if none is named.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
) -> None:
    """Show what the servers printed.

    Example: kalinka lab logs dev1.kafka -n 100 --follow
    """
    from kalinka_jms.lab import logs as printed

    names = services or []
    layout = _lab_of(names).layout
    files = {layout.log(one): one.name for one in layout.services if not names or one.name in names}
    for file, name in files.items():
        _print(name, printed.tail(file, lines), len(files))
    for file, line in printed.follow(list(files)) if follow else ():
        _print(files[file], [line], len(files))


def _print(name: str, lines: Sequence[str], of: int) -> None:
    for line in lines:
        typer.echo(line if of == 1 else f"{name:16} {line}")


def _lab(
    profile: str | None = None, base: str | None = None, ports: list[str] | None = None, device: bool = False
) -> Lab:
    """The lab that is meant: what was given, else what is up, else the defaults."""
    from kalinka_jms.lab.lab import Lab

    with _usage():
        return Lab(_layout(profile, base, ports, device), lambda line: typer.echo(line, err=True))


def _lab_of(names: Sequence[str]) -> Lab:
    """The lab, which must have servers of those names."""
    lab = _lab()
    with _usage():
        for name in names:
            lab.layout.service(name)
    return lab


def _layout(profile: str | None, base: str | None, ports: list[str] | None, device: bool) -> Layout:
    from dataclasses import replace

    from kalinka_jms.lab import layout as layouts
    from kalinka_jms.lab.lab import Lab

    found = Lab.at().layout
    if profile is not None:
        found = replace(found, profile=layouts.parse_profile(profile))
    if base is not None:
        found = replace(found, base_address=layouts.parse_address(base))
    if ports:
        found = replace(found, ports=layouts.parse_ports(ports))
    return replace(found, delivery_device=True) if device else found


@contextmanager
def _usage() -> Iterator[None]:
    """What is wrong in here was typed wrong: exit code 2."""
    from kalinka_jms.errors import LabError

    try:
        yield
    except LabError as error:
        raise typer.BadParameter(str(error)) from None
