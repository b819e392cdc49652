"""The secure profile on the three hosts: the demo as devices with logins, and attacks that must fail.

The authority and the passwords are where the playbooks keep them (the role pki).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kalinka_jms.config import Broker, Tls
from kalinka_jms.config.secret import Secret
from kalinka_jms.errors import LabError, LinkRefused
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.demo import NAMES, Place
from kalinka_jms.lab.device import MqttBroker
from kalinka_jms.lab.ledger import Ledger
from kalinka_jms.stomp.frames import encode
from kalinka_jms.stomp.link import Link
from tests.hosts.hosts import ADDRESSES, BOOTSTRAP, PLACE, nspawn
from tests.integration.secure.intruder import Intruder

PKI = Path(os.environ.get("KALINKA_PKI") or Path.home() / ".local/state/kalinka/pki")
DEAD, BACK_END = "kalinka.dead", "0.mqtt.sparkcluster"
SECRETS = (
    *(f"/etc/{server}/server.pem" for server in ("activemq", "kafka", "zookeeper")),
    *(f"/etc/activemq/{name}" for name in ("broker.p12", "kalinka.properties", "users.properties")),
    "/etc/zookeeper/login.config",
    *(f"/etc/kalinka/secrets/{name}" for name in ("stomp", "kafka", "zookeeper", "kafka-admin")),
)
PATIENCE = 60.0
BEAST, SPY, VICTIM = NAMES

Say = Callable[[str], None]


def password(name: str) -> str:
    """That the playbooks made."""
    return (PKI / "passwords" / name).read_text().strip()


def brokers() -> list[MqttBroker]:
    """Where devices connect."""
    context = ssl.create_default_context(cafile=str(PKI / "ca.pem"))
    return [MqttBroker(name, address, 8883, context) for name, address in ADDRESSES.items()]


def login(user: str) -> dict[str, Any]:
    """What a user of Kafka says of itself."""
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(PKI / "ca.pem"),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password(f"kafka-{user}"),
    }


def place() -> Place:
    """The hosts as a place for the demo, for devices and a back end with logins."""
    passwords = {name: password(f"devices/{name}") for name in NAMES}
    return replace(PLACE, brokers=brokers(), passwords=passwords, login=login("sparkcluster"))


def attack(say: Say) -> None:
    """Everything that must fail. Raises LabError where something does not."""
    attempts = (anonymous_stomp, publish_as_another, read_anothers_topic, forge_a_source, read_a_secret)
    for attempt in attempts:
        attempt()
        say(f"refused: {attempt.__name__.replace('_', ' ')}")


def anonymous_stomp() -> None:
    for name, address in ADDRESSES.items():
        for user, code in ((None, None), ("kalinka", Secret(plain="wrong"))):
            try:
                Link(_stomp(name, address, user, code), lambda _: None).connect()
            except LinkRefused:
                continue
            raise LabError(f"{name} lets {user or 'anybody'} in")


def publish_as_another() -> None:
    with _reading("sparkcluster", BACK_END) as back_end, _intruder(BEAST) as beast:
        beast.publish(f"mqtt/{VICTIM}/sparkcluster/pub", b"forged")
        beast.publish(f"mqtt/{BEAST}/sparkcluster/pub", b"honest")
        back_end.wait_for(BACK_END, lambda record: record.value == b"honest", PATIENCE)
        _expect(back_end, BACK_END, b"honest")


def read_anothers_topic() -> None:
    with _intruder(SPY) as spy:
        for topics in (f"mqtt/+/mqtt/{VICTIM}/sub", f"sparkcluster/mqtt/{VICTIM}/sub", "ActiveMQ/Advisory/#"):
            if spy.subscribe(topics):
                raise LabError(f"{SPY} may listen to {topics}")


def forge_a_source() -> None:
    """By the one user who may write there: `config check` needs such a one."""
    name, address = next(iter(ADDRESSES.items()))
    link = Link(_stomp(name, address, "kalinka", Secret(plain=password("stomp"))), lambda _: None)
    with _reading("admin", BACK_END, DEAD) as back_end:
        link.connect()
        headers = [("destination", f"/topic/mqtt.{VICTIM}.sparkcluster.pub"), ("JMSXUserID", VICTIM)]
        link.write(encode("SEND", headers, b"forged"))
        dead = back_end.wait_for(DEAD, lambda record: record.value == b"forged", PATIENCE)
        link.disconnect()
        _expect(back_end, BACK_END)
    if b"is not its sender" not in (dead.header("kalinka.reason") or b""):
        raise LabError(f"a forged source is dead for another reason: {dead.header('kalinka.reason')!r}")


def read_a_secret() -> None:
    """As a user of a host that is none of the services'."""
    for host in ADDRESSES:
        read = nspawn("ssh", host, "cat", *SECRETS, "2>/dev/null", "||", "true")
        if read:
            raise LabError(f"{host} lets everybody read secrets:\n{read}")
        nspawn("ssh", host, "sudo", "ls", *SECRETS)  # they are there


def _expect(back_end: BackEnd, topic: str, *values: bytes) -> None:
    found = [record.value for record in back_end.read(topic)]
    if found != list(values):
        raise LabError(f"{topic} has {found}")


def _stomp(name: str, address: str, user: str | None, passcode: Secret | None) -> Broker:
    tls = Tls(ca=str(PKI / "ca.pem"))
    return Broker(name=name, stomp=f"stomps://{address}:61614", login=user, passcode=passcode, tls=tls)


def _intruder(user: str) -> Intruder:
    return Intruder(brokers()[0], user, password(f"devices/{user}"), user)


@contextmanager
def _reading(user: str, *topics: str) -> Iterator[BackEnd]:
    with ExitStack() as stack:
        back_end = BackEnd(BOOTSTRAP, Ledger(), topics=topics, login=login(user))
        stack.callback(back_end.close)
        back_end.start()
        yield back_end
