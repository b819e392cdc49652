"""Entry points of the `kalinka` command. It parses, calls and prints; the work is done elsewhere.

Exit codes: 0 fine, 1 a finding, 2 wrong usage or a bad configuration, 3 something cannot be reached.
Nothing heavy is imported before a command needs it: `kalinka --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kalinka_cli.broker_config import broker_config
from kalinka_cli.brokers import brokers
from kalinka_cli.config import app as config_app
from kalinka_cli.dead import app as dead_app
from kalinka_cli.demo import demo
from kalinka_cli.devices import devices
from kalinka_cli.explain import explain
from kalinka_cli.lab import app as lab_app
from kalinka_cli.leftovers import app as parked_app
from kalinka_cli.route import app as route_app
from kalinka_cli.send import send
from kalinka_cli.status import status
from kalinka_cli.topics import app as topics_app
from kalinka_jms import __version__
from kalinka_jms.errors import ConfigError, KafkaError, KalinkaError, LabError, LinkError, RegistryError

HELP = {"help_option_names": ["-h", "--help"]}
FINDING, USAGE, UNREACHABLE = 1, 2, 3

app = typer.Typer(
    name="kalinka",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could show a secret
    context_settings=HELP,
    help="A bridge between MQTT devices on standalone ActiveMQ brokers and Kafka.",
)
app.add_typer(config_app, name="config")
app.add_typer(lab_app, name="lab")
app.add_typer(topics_app, name="topics")
app.command("broker-config")(broker_config)
app.command("demo")(demo)
app.command("devices")(devices)
app.command("brokers")(brokers)
app.command("status")(status)
app.command("send")(send)
app.add_typer(parked_app, name="parked")
app.add_typer(dead_app, name="dead")
app.command("explain")(explain)
app.add_typer(route_app, name="route")


class Level(StrEnum):
    """From which level on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Config = Annotated[Path, typer.Option("--config", "-c", help="The TOML file with the configuration.")]
LogLevel = Annotated[Level, typer.Option("--log-level", case_sensitive=False, help="What is logged.")]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve /metrics, /healthz and /readyz over HTTP at this address. No port is taken without it.",
    ),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"kalinka {__version__}")
        raise typer.Exit


@app.callback()
def kalinka(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A bridge between MQTT devices on standalone ActiveMQ brokers and Kafka.

    Example: kalinka lab up && kalinka lab config > kalinka.toml && kalinka run --config kalinka.toml
    """


@app.command("pub")
def pub_command(config: Config, log_level: LogLevel = Level.INFO, metrics: Metrics = None) -> None:
    """Carry what devices publish to Kafka, until SIGTERM or Ctrl-C.

    Any number of instances work side by side from the same file.

    Example: kalinka pub --config kalinka.toml
    """
    _serve(config, log_level, metrics, "pub")


@app.command("sub")
def sub_command(config: Config, log_level: LogLevel = Level.INFO, metrics: Metrics = None) -> None:
    """Carry records from Kafka to the devices they are for, until SIGTERM or Ctrl-C.

    Any number of instances work side by side from the same file.

    Example: kalinka sub --config kalinka.toml
    """
    _serve(config, log_level, metrics, "sub")


@app.command("registry")
def registry_command(config: Config, log_level: LogLevel = Level.INFO, metrics: Metrics = None) -> None:
    """Keep in ZooKeeper on which broker each device listens, until SIGTERM or Ctrl-C.

    Any number of instances work side by side from the same file.

    Example: kalinka registry --config kalinka.toml
    """
    _serve(config, log_level, metrics, "registry")


@app.command("run")
def run_command(config: Config, log_level: LogLevel = Level.INFO, metrics: Metrics = None) -> None:
    """Run pub, sub and registry in one process, until SIGTERM or Ctrl-C.

    Example: kalinka run --config kalinka.toml
    """
    _serve(config, log_level, metrics, "pub", "sub", "registry")


def _serve(config: Path, level: Level, metrics: str | None, *parts: str) -> None:
    from kalinka_jms import logs
    from kalinka_jms.config import load
    from kalinka_jms.metrics.server import parse_address

    address = None if metrics is None else parse_address(metrics)
    settings = load(config)
    from kalinka_jms.service import run  # after the check: a bad file is told at once

    logs.setup(level)
    raise typer.Exit(run(settings, parts, address))


def _called(called: typer.Typer) -> None:
    """What a user can cause ends with its text and a code, never with a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # an id may hold what the terminal's character set has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        called()
    except ConfigError as error:
        typer.echo(str(error), err=True)
        sys.exit(USAGE)
    except (LinkError, KafkaError, RegistryError, LabError) as error:
        typer.echo(f"kalinka: {error}", err=True)
        sys.exit(UNREACHABLE)
    except KalinkaError as error:
        typer.echo(f"kalinka: {error}", err=True)
        sys.exit(FINDING)


def main() -> None:
    """`kalinka`."""
    _called(app)


def pub() -> None:
    """`kalinka-pub`: the same as `kalinka pub`."""
    _called(_alone(pub_command))


def sub() -> None:
    """`kalinka-sub`: the same as `kalinka sub`."""
    _called(_alone(sub_command))


def _alone(command: object) -> typer.Typer:
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=HELP)
    alone.command()(command)  # type: ignore[type-var]
    return alone


if __name__ == "__main__":
    main()
