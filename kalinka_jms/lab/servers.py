"""What each kind of server is started with: the files written before, and the command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

from kalinka_jms.dead import largest_frame
from kalinka_jms.errors import LabError
from kalinka_jms.lab.guard import OPEN, Guard
from kalinka_jms.lab.layout import Layout, Ports, Service
from kalinka_jms.lab.processes import marks

# Kafka wants a base64 UUID; that of every lab is the same, as clusters are told apart by their addresses.
_CLUSTER_ID = "S2FsaW5rYS1sYWItMDAwMQ"
_LOGGING = ("-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
_DEVICE_ADVISORIES = (
    '\n                       advisoryForConsumed="true" advisoryForDispatched="true" includeBodyForAdvisory="false"'
)
_DEVICE_COMMENT = (
    'advisoryForConsumed, advisoryForDispatched: routes with delivery = "device" never see an acknowledgement.\n'
    "               includeBodyForAdvisory: each of these advisories would carry the whole payload."
)
_NO_DEVICE_COMMENT = (
    'advisoryForConsumed and advisoryForDispatched are off: only delivery = "device" needs what they cost.'
)


KAFKA_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own default of max.message.bytes."""
LAB_MAX_MESSAGE_BYTES = 10 * 2**20
"""That of the lab's Kafka."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a server is started with: a Java and its jars."""

    java: str
    jars: Path


def broker_xml(
    name: str,
    host: str,
    data: str,
    ports: Ports,
    device: bool = False,
    guard: Guard = OPEN,
    max_message_bytes: int = KAFKA_MAX_MESSAGE_BYTES,
) -> str:
    """The configuration of an ActiveMQ Classic broker for Kalinka.

    `data` is its directory for messages; `device` adds the advisories that routes with delivery = "device" need;
    `guard` keeps strangers out; `max_message_bytes` is that of the Kafka topics: a device cannot publish more.
    """
    return _template("activemq.xml").substitute(
        name=escape(name, {'"': "&quot;"}),
        host=escape(host, {'"': "&quot;"}),
        data=escape(data, {'"': "&quot;"}),
        mqtt_port=ports.mqtt,
        stomp_port=ports.stomp,
        openwire_port=ports.openwire,
        device_advisories=_DEVICE_ADVISORIES if device else "",
        device_comment=_DEVICE_COMMENT if device else _NO_DEVICE_COMMENT,
        max_message_bytes=f"{max_message_bytes:,}",
        max_frame=largest_frame(max_message_bytes),
        **guard.pieces(),
    )


def prepare(layout: Layout, service: Service, runtime: Runtime) -> list[str]:
    """Write what a server needs on disk; the command that starts it. Raises LabError."""
    directory = layout.directory(service)
    shutil.rmtree(directory / "tmp", ignore_errors=True)
    for name in ("data", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    settings = {"activemq": _activemq, "kafka": _kafka, "zookeeper": _zookeeper}[service.kind]
    heap, main = settings(layout, service, runtime)
    fixed = ["-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", f"-Djava.io.tmpdir={directory / 'tmp'}", *_LOGGING]
    return [runtime.java, heap, *fixed, *marks(layout.state, service.name), "-cp", f"{runtime.jars}/*", *main]


def _activemq(layout: Layout, service: Service, _: Runtime) -> tuple[str, list[str]]:
    directory = layout.directory(service)
    configuration = directory / "activemq.xml"
    configuration.write_text(
        broker_xml(
            service.node,
            service.address,
            str(directory / "data"),
            layout.ports,
            layout.delivery_device,
            max_message_bytes=LAB_MAX_MESSAGE_BYTES,
        )
    )
    return "-Xmx1g", [  # as ActiveMQ's own script has it; 10,000 devices need more than half of it
        f"-Dactivemq.home={directory}",
        f"-Dactivemq.base={directory}",
        "org.apache.activemq.console.Main",
        "start",
        "xbean:file:activemq.xml",  # relative: ActiveMQ refuses a file:/// URL, and reads blanks as it likes
    ]


def _kafka(layout: Layout, service: Service, runtime: Runtime) -> tuple[str, list[str]]:
    directory = layout.directory(service)
    configuration = directory / "server.properties"
    voters = (f"{node.number}@{node.address}:{node.ports['controller']}" for node in layout.of("kafka"))
    configuration.write_text(
        _template("server.properties").substitute(
            number=service.number,
            voters=",".join(voters),
            host=service.address,
            kafka_port=service.ports["kafka"],
            controller_port=service.ports["controller"],
            data=directory / "data",
            replication=layout.replication,
            min_isr=max(1, layout.replication - 1),
        )
    )
    _format(directory, configuration, runtime)
    return "-Xmx512m", ["kafka.Kafka", str(configuration)]


def _format(directory: Path, configuration: Path, runtime: Runtime) -> None:
    """Make Kafka's data directory, once; begun again where it was interrupted."""
    done = directory / "formatted"
    if done.exists():
        return
    tool = [runtime.java, "-Xmx128m", "-XX:-UsePerfData", "-cp", f"{runtime.jars}/*", "kafka.tools.StorageTool"]
    tool += ["format", "--ignore-formatted", "-t", _CLUSTER_ID, "-c", str(configuration)]
    told = subprocess.run(tool, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if told.returncode:
        raise LabError(f"Kafka could not format {directory / 'data'}:\n{told.stdout}{told.stderr}".rstrip())
    done.touch()


def _zookeeper(layout: Layout, service: Service, _: Runtime) -> tuple[str, list[str]]:
    directory = layout.directory(service)
    configuration = directory / "zoo.cfg"
    servers = layout.of("zookeeper")
    members = [f"server.{peer.number}={peer.address}:{layout.ports.quorum}:{layout.ports.election}" for peer in servers]
    configuration.write_text(
        _template("zoo.cfg").substitute(
            data=directory / "data",
            zookeeper_port=service.ports["zookeeper"],
            host=service.address,
            ensemble="\n".join(members) if len(servers) > 1 else "",
        )
    )
    (directory / "data" / "myid").write_text(f"{service.number}\n")
    return "-Xmx256m", ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(configuration)]


def _template(name: str) -> Template:
    return Template((files(__package__) / "templates" / name).read_text())
