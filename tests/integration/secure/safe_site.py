"""A small installation in which nobody may do more than he needs: three brokers, one Kafka, one ZooKeeper.

TLS everywhere, users with passwords everywhere, and rights as docs/own-servers.md and docs/security.md give them.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kalinka_jms.config import Settings, load
from kalinka_jms.lab import jars, processes, toolchain
from kalinka_jms.lab.authority import Authority
from kalinka_jms.lab.device import MqttBroker
from kalinka_jms.lab.guard import Guard
from kalinka_jms.lab.layout import Layout, Ports, Service
from kalinka_jms.lab.servers import Runtime, broker_xml, prepare
from kalinka_jms.lab.waiting import wait_until
from tests.log_in import can_log_in

PORTS = Ports(mqtt=8883, stomp=61614, openwire=61617, kafka=9192, controller=9193, zookeeper=2281)
DEVICES = ("beast", "sabretooth", "wolverine")
KALINKA, BACK_END, ADMIN, OTHER = "kalinka", "sparkcluster", "admin", "other"

LOGIN = """\
kalinka {
  org.apache.activemq.jaas.PropertiesLoginModule required
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.group="groups.properties"
    reload=true;
};
"""
KAFKA = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=CLIENT://{host}:{kafka},INTERNAL://{host}:{internal},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENT://{host}:{kafka},INTERNAL://{host}:{internal}
listener.security.protocol.map=CLIENT:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listener.name.internal.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keys}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:CN=kafka;User:admin
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""
ZOOKEEPER = """\
dataDir={data}
secureClientPort={port}
secureClientPortAddress={host}
admin.enableServer=false
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
ssl.keyStore.location={keys}
ssl.trustStore.location={ca}
ssl.clientAuth=none
authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider
enforce.auth.enabled=true
enforce.auth.schemes=sasl
sessionRequireClientSASLAuth=true
"""
SERVER_LOGIN = """\
Server {{
  org.apache.zookeeper.server.auth.DigestLoginModule required user_kalinka="{password}" user_other="{password}";
}};
"""
CONFIG = """\
[kafka]
"bootstrap.servers" = "{kafka}"
"security.protocol" = "SASL_SSL"
"ssl.ca.location" = "{ca}"
"sasl.mechanism" = "SCRAM-SHA-512"
"sasl.username" = "{user}"
"sasl.password" = {{ file = "{secrets}/{user}" }}

[zookeeper]
hosts = "{zookeeper}"
tls = {{ ca = "{ca}" }}
auth = {{ scheme = "sasl", user = "{keeper}", password = {{ file = "{secrets}/zookeeper" }} }}

[pub]
verify_source = true
"""
BROKER = """\
[[brokers]]
name = "{name}"
stomp = "stomps://{host}:{stomp}"
mqtt = "mqtts://{host}:{mqtt}"
login = "kalinka"
passcode = {{ file = "{secrets}/stomp" }}
tls = {{ ca = "{ca}" }}

"""


class Site:
    """The servers' files, and how they are started. `password`: everybody's; a test of rights needs no more."""

    def __init__(self, state: Path, address: str) -> None:
        self.layout = Layout(state, "small", address, PORTS)
        self.state = state
        self.authority = Authority(state / "authority")
        self.password = secrets.token_hex(8)
        self.secrets = state / "secrets"
        self.secrets.mkdir()
        for name in (KALINKA, BACK_END, ADMIN, OTHER, "stomp", "zookeeper"):
            (self.secrets / name).write_text(self.password)
        self.config = state / "kalinka.toml"
        self.config.write_text(self.toml())

    def toml(self, user: str = KALINKA) -> str:
        """A configuration, with `user` at Kafka; ZooKeeper knows Kalinka and the other one."""
        brokers = [
            BROKER.format(name=one.node, host=one.address, ca=self.authority.ca, secrets=self.secrets, **one.ports)
            for one in self.layout.of("activemq")
        ]
        return "".join(brokers) + CONFIG.format(
            kafka=self.layout.bootstrap,
            zookeeper=self.layout.zookeeper,
            ca=self.authority.ca,
            secrets=self.secrets,
            user=user,
            keeper=OTHER if user == OTHER else KALINKA,
        )

    def settings(self, user: str = KALINKA) -> Settings:
        """The same, loaded."""
        file = self.state / f"as-{user}.toml"
        file.write_text(self.toml(user))
        return load(file)

    def brokers(self) -> list[MqttBroker]:
        """Where devices connect."""
        context = self.settings().brokers[0].tls
        assert context is not None
        return [MqttBroker(one.node, one.address, PORTS.mqtt, context.context()) for one in self.layout.of("activemq")]

    def kafka(self, user: str) -> dict[str, Any]:
        """The settings with which a user reaches Kafka."""
        return self.settings(user).kafka_settings()

    def conf(self, broker: str) -> Path:
        """The directory with a broker's users and rights."""
        return self.layout.directory(self.layout.service(f"{broker}.activemq")) / "conf"

    def users(self, broker: str, names: Sequence[str]) -> None:
        """Who may log in at a broker; `names` beside Kalinka."""
        lines = "".join(f"{name}={self.password}\n" for name in (KALINKA, *names))
        _replace(self.conf(broker) / "users.properties", lines)

    def rights(self, broker: str, devices: Sequence[str]) -> None:
        """Which devices have rights at a broker."""
        service = self.layout.service(f"{broker}.activemq")
        directory = self.layout.directory(service)
        guard = Guard(tls=True, devices=devices)
        xml = broker_xml(service.node, service.address, str(directory / "data"), PORTS, guard=guard)
        _replace(directory / "activemq.xml", xml)

    @contextmanager
    def up(self) -> Iterator[None]:
        """All servers run."""
        try:
            for service in self.layout.services:
                start = {"activemq": self._activemq, "kafka": self._kafka, "zookeeper": self._zookeeper}[service.kind]
                command = start(service)
                processes.spawn(command, self.layout.directory(service), self.layout.log(service))
            for service in self.layout.services:
                assert wait_until(lambda one=service: listens(one), 180), self.layout.log(service).read_text()
            for broker in load(self.config).brokers:
                assert wait_until(lambda one=broker: can_log_in(one), 120), broker
            yield
        finally:
            processes.stop(self.state, processes.running(self.state).values(), 30)

    def _activemq(self, service: Service) -> list[str]:
        command = prepare(self.layout, service, Runtime(toolchain.java(), jars.fetch("activemq", print)))
        conf = self.conf(service.node)
        conf.mkdir()
        (conf / "login.config").write_text(LOGIN)
        (conf / "groups.properties").write_text("")
        (conf / "kalinka.properties").write_text(f"keystore.password={self.password}\n")
        store = self.authority.store(service.node, f"IP:{service.address}", self.password)
        (conf / "broker.p12").write_bytes(store.read_bytes())
        self.users(service.node, DEVICES)
        self.rights(service.node, DEVICES)
        return _with(command, f"-Dactivemq.conf={conf}", f"-Djava.security.auth.login.config={conf}/login.config")

    def _kafka(self, service: Service) -> list[str]:
        runtime = Runtime(toolchain.java(), jars.fetch("kafka", print))
        directory = self.layout.directory(service)
        (directory / "data").mkdir(parents=True)
        configuration = directory / "server.properties"
        keys = self.authority.bundle("kafka", f"IP:{service.address}")
        places = {"keys": keys, "ca": self.authority.ca, "data": directory / "data", "internal": PORTS.controller + 1}
        configuration.write_text(KAFKA.format(host=service.address, **service.ports, **places))
        java = [runtime.java, "-Xmx512m", "-cp", f"{runtime.jars}/*"]
        users = [f"SCRAM-SHA-512=[name={name},password={self.password}]" for name in (KALINKA, BACK_END, ADMIN, OTHER)]
        scram = [part for user in users for part in ("--add-scram", user)]
        tool = [*java, "kafka.tools.StorageTool", "format", "-t", "S2FsaW5rYS1sYWItMDAwMQ", "-c", str(configuration)]
        subprocess.run([*tool, *scram], check=True, capture_output=True)
        return _with([*java, "kafka.Kafka", str(configuration)], *processes.marks(self.state, service.name))

    def _zookeeper(self, service: Service) -> list[str]:
        command = prepare(self.layout, service, Runtime(toolchain.java(), jars.fetch("zookeeper", print)))
        directory = self.layout.directory(service)
        keys = self.authority.bundle("zookeeper", f"IP:{service.address}")
        places = {"data": directory / "data", "keys": keys, "ca": self.authority.ca}
        (directory / "zoo.cfg").write_text(ZOOKEEPER.format(host=service.address, port=PORTS.zookeeper, **places))
        (directory / "login.config").write_text(SERVER_LOGIN.format(password=self.password))
        return _with(command, f"-Djava.security.auth.login.config={directory}/login.config")


def listens(service: Service) -> bool:
    """Whether the port of its clients is open."""
    try:
        socket.create_connection((service.address, service.port), 1).close()
    except OSError:
        return False
    return True


def _with(command: Sequence[str], *properties: str) -> list[str]:
    return [command[0], *properties, *command[1:]]


def _replace(path: Path, text: str) -> None:
    """At once: a server that looks at the file must not see half of it."""
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.replace(path)
