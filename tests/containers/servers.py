"""The lab's servers as containers on this machine's network, with the very configuration that the lab writes.

By default the official images. KALINKA_TEST_BASE names an image to use instead, where those cannot be had: any Debian,
into which this machine's Java and the lab's jars are mounted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testcontainers.core.container import DockerContainer

from kalinka_jms.config import load
from kalinka_jms.lab import configuration, jars, toolchain, topics
from kalinka_jms.lab.layout import Layout, Service
from kalinka_jms.lab.probes import answers
from kalinka_jms.lab.servers import Runtime, prepare
from kalinka_jms.lab.waiting import wait_until

BASE = os.environ.get("KALINKA_TEST_BASE")
PATIENCE = 180.0

OFFICIAL = {
    "activemq": "apache/activemq-classic:{}",
    "kafka": "apache/kafka:{}",
    "zookeeper": "docker.io/library/zookeeper:{}",
}
"""The official images, by the version that the lab has."""

COMMANDS = {
    "activemq": "bin/activemq console xbean:file:{}/activemq.xml",
    "kafka": "/opt/kafka/bin/kafka-server-start.sh {}/server.properties",
    "zookeeper": "zkServer.sh start-foreground {}/zoo.cfg",
}
"""What is run in them; the configuration is in the directory that is filled in."""


@contextmanager
def running(layout: Layout) -> Iterator[Path]:
    """All servers answer and the topics are there; yields the configuration for Kalinka."""
    config = layout.state / "kalinka.toml"
    config.write_text(configuration.toml(layout))
    with ExitStack() as stack:
        made = [(service, stack.enter_context(container(layout, service))) for service in layout.services]
        for service, one in made:
            assert wait_until(lambda service=service: answers(service), PATIENCE), one.get_logs()
        topics.create(layout, load(config))
        yield config


def container(layout: Layout, service: Service) -> DockerContainer:
    """One server, not started yet."""
    runtime = Runtime(str(Path(toolchain.java()).resolve()), jars.fetch(service.kind, print))
    command = prepare(layout, service, runtime)
    directory = layout.directory(service)
    if BASE is None:
        version = jars.versions()[service.kind][f"{service.kind}.version"]
        made = DockerContainer(OFFICIAL[service.kind].format(version))
        made = made.with_command(COMMANDS[service.kind].format(directory))
    else:
        made = DockerContainer(BASE).with_command(command)
        for path in (str(runtime.jars), *_java(runtime.java)):
            made = made.with_volume_mapping(path, path, "ro")
    made = made.with_volume_mapping(str(layout.state), str(layout.state), "rw")
    user = f"{os.getuid()}:{os.getgid()}"
    return made.with_kwargs(network_mode="host", user=user, working_dir=_home(service, directory))


def _home(service: Service, directory: Path) -> str:
    """Where the command is run: the official image of ActiveMQ has its own in its home."""
    return "/opt/apache-activemq" if BASE is None and service.kind == "activemq" else str(directory)


def _java(java: str) -> list[str]:
    """The directories of a Java: Debian keeps a part of it in /etc."""
    home = Path(java).resolve().parents[1]
    return [str(home), *(str(path) for path in Path("/etc").glob("java-*-openjdk"))]
