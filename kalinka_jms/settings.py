"""The settings: what the one TOML file may say, with defaults. Loading and checking is in `config`.

The description of a field says what would be right for it: it is the text a user reads when the value is wrong.
"""

from __future__ import annotations

import ssl
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kalinka_jms.fields import (
    GROUP,
    NAME,
    Address,
    Count,
    Envelope,
    Interval,
    KafkaTable,
    KafkaTopic,
    MqttAddress,
    PemFile,
    Queue,
    Seconds,
    SecretValue,
    Switch,
    split_address,
)
from kalinka_jms.secret import Secret

MIB = 1024 * 1024


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)


class Tls(_Table):
    """How to trust a server, and (mTLS) how to prove who we are. Without `ca` the system's authorities count."""

    ca: PemFile | None = Field(default=None, description="the path of a PEM file with the authorities to trust")
    cert: PemFile | None = Field(default=None, description="the path of a PEM file with our certificate")
    key: PemFile | None = Field(default=None, description="the path of a PEM file with the key of our certificate")
    key_password: SecretValue | None = Field(default=None, description="a secret")
    verify: Switch = Field(default=True, description="true, or false to trust any server (for a test only)")

    @model_validator(mode="after")
    def _loads(self) -> Tls:
        if self.key and not self.cert:
            raise ValueError("has a key but no cert")
        self.context()
        return self

    def context(self) -> ssl.SSLContext:
        """A client's TLS context, from the files as they are now. Raises ValueError when they do not fit."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                password = self.key_password.read() if self.key_password else ""
                context.load_cert_chain(self.cert, self.key, password)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"ca, cert, key and key_password do not fit together: {error}") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Broker(_Table):
    """One standalone ActiveMQ broker."""

    name: str = Field(pattern=NAME, description='a name like "dev1" (letters, digits, . _ -; at most 64)')
    stomp: Address = Field(description='an address like "stomp://host:61613"')
    mqtt: MqttAddress | None = Field(
        default=None,
        description='an address like "mqtt://host:1883": where devices connect; only `config check --connect` uses it, '
        "and tries port 1883 of the STOMP host without it",
    )
    group: str = Field(default="0", pattern=GROUP, description='a group like "0" (letters, digits, _ -; at most 32)')
    login: str | None = Field(default=None, min_length=1, description="a login")
    passcode: SecretValue | None = Field(default=None, description="a secret")
    tls: Tls | None = Field(default=None, description="a table with ca, cert, key, key_password, verify")
    heartbeat: Interval = Field(default=4.0, description="seconds, 0.1 to 600")

    @model_validator(mode="after")
    def _fits(self) -> Broker:
        if self.tls and not self.secure:
            raise ValueError("has a tls table, but stomp:// is plain: the address should begin with stomps://")
        if self.passcode and self.login is None:
            raise ValueError("has a passcode but no login")
        return self

    @property
    def host(self) -> str:
        return split_address(self.stomp).hostname or ""

    @property
    def port(self) -> int:
        return split_address(self.stomp).port or 0

    @property
    def secure(self) -> bool:
        return self.stomp.startswith("stomps:")


class ZookeeperAuth(_Table):
    """How to log in to ZooKeeper. `sasl` is DIGEST-MD5."""

    scheme: Literal["digest", "sasl"] = Field(default="digest", description='"digest" or "sasl"')
    user: str = Field(min_length=1, description="a user name")
    password: SecretValue = Field(description="a secret")


class Zookeeper(_Table):
    """The ZooKeeper ensemble that holds the registry."""

    hosts: str = Field(
        pattern=r"^[^\s,/:]+:\d{1,5}(,[^\s,/:]+:\d{1,5})*(/[^\s,]+)?$",
        description='servers with ports, like "zk1:2181,zk2:2181"',
    )
    root: str = Field(
        default="/kalinka/devices",
        pattern=r"^(/[^/\s]+){2,}$",
        description='a path of two names or more, like "/kalinka/devices" (its parent holds more of Kalinka\'s nodes)',
    )
    session_timeout: Interval = Field(default=6.0, description="seconds, 0.1 to 600")
    auth: ZookeeperAuth | None = Field(default=None, description="a table with scheme, user, password")
    tls: Tls | None = Field(default=None, description="a table with ca, cert, key, key_password, verify")


class Pub(_Table):
    """`kalinka pub`: broker → Kafka."""

    queues: tuple[Queue, ...] = Field(
        default=("kalinka.mqtt.pub", "kalinka.sparkcluster.pub"),
        min_length=1,
        description='names of queues, like "kalinka.mqtt.pub" (no "/queue/" before it; no blank, "," or "?")',
    )
    exclusive: Switch = Field(default=True, description="true (order kept) or false (throughput before order)")
    prefetch: Annotated[Count, Field(le=30_000)] = Field(
        default=1000, description="messages, 1 to 30000 (1000 to 2000 is best)"
    )
    max_bytes: Count = Field(default=64 * MIB, description="bytes, the most that may be in flight from one broker")


class Sub(_Table):
    """`kalinka sub`: Kafka → owning broker."""

    groups: tuple[str, ...] | None = Field(default=None, min_length=1, description='groups of brokers, like ["0"]')
    consumer_group: str = Field(
        default="kalinka-sub", min_length=1, max_length=249, description="the name of a Kafka group"
    )
    window_records: Count = Field(default=10_000, description="records, at least 1")
    window_bytes: Count = Field(default=64 * MIB, description="bytes, at least 1")
    transaction: Count = Field(default=200, description="records of one STOMP transaction, at least 1")
    transactions_in_flight: Count = Field(default=4, description="transactions in flight on one link, at least 1")
    ack_timeout: Seconds = Field(default=10.0, description="seconds, more than 0")
    echo_timeout: Seconds = Field(default=10.0, description="seconds, more than 0")
    max_hops: Count = Field(default=3, description="hand-overs between groups, at least 1")


class Registry(_Table):
    """`kalinka registry`: who listens where."""

    grace: Seconds = Field(default=10.0, description="seconds that what a lost broker held still counts")
    resync: Seconds = Field(default=300.0, description="seconds between two reconciliations with a broker")


class UpRoute(_Table):
    """MQTT → Kafka."""

    from_: str = Field(
        validation_alias="from", description='a template like "mqtt/{source}/mqtt/{device}/pub"', min_length=1
    )
    topic: str = Field(description='a template like "{group}.mqtt.mqtt"', min_length=1)
    key: str = Field(description='a template like "{device}"', min_length=1)
    envelope: Envelope = Field(default="plain", description='"plain" or "reference"')
    group_by: Literal["device", "source"] = Field(default="device", description='"device" or "source"')


class DownRoute(_Table):
    """Kafka → MQTT."""

    from_: str = Field(validation_alias="from", description='a template like "{group}.mqtt.mqtt"', min_length=1)
    to: str = Field(description='a template like "mqtt/{source}/mqtt/{device}/sub"', min_length=1)
    qos: Annotated[int, Field(strict=True, ge=0, le=2)] = Field(default=1, description="0, 1 or 2")
    delivery: Literal["broker"] = Field(default="broker", description='"broker" (nothing else is supported yet)')
    envelope: Envelope = Field(default="plain", description='"plain" or "reference"')
    ack_timeout: Seconds | None = Field(default=None, description="seconds, more than 0; without it that of [sub]")


DEFAULT_UP = (
    UpRoute(from_="mqtt/{source}/mqtt/{device}/pub", topic="{group}.mqtt.mqtt", key="{device}"),
    UpRoute(from_="mqtt/{source}/sparkcluster/pub", topic="{group}.mqtt.sparkcluster", key="{source}"),
)
DEFAULT_DOWN = (
    DownRoute(from_="{group}.mqtt.mqtt", to="mqtt/{source}/mqtt/{device}/sub"),
    DownRoute(from_="{group}.sparkcluster.mqtt", to="sparkcluster/mqtt/{device}/sub"),
)


class Routes(_Table):
    """Both directions. A list that the file does not give is the default one; a list it gives replaces it."""

    up: tuple[UpRoute, ...] = Field(default=DEFAULT_UP, description="tables [[routes.up]]")
    down: tuple[DownRoute, ...] = Field(default=DEFAULT_DOWN, description="tables [[routes.down]]")


class Settings(_Table):
    """The whole file."""

    brokers: tuple[Broker, ...] = Field(min_length=1, description="at least one table [[brokers]]")
    kafka: KafkaTable = Field(description='a table [kafka] with "bootstrap.servers"')
    zookeeper: Zookeeper = Field(description='a table [zookeeper] with hosts = "host:2181"')
    pub: Pub = Field(default=Pub(), description="a table [pub]")
    sub: Sub = Field(default=Sub(), description="a table [sub]")
    registry: Registry = Field(default=Registry(), description="a table [registry]")
    routes: Routes = Field(default=Routes(), description="tables [[routes.up]] and [[routes.down]]")
    dead: KafkaTopic = Field(default="kalinka.dead", description="the name of a Kafka topic")

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups of brokers, sorted; those that are numbers by their value."""
        return _sorted({broker.group for broker in self.brokers})

    @property
    def served(self) -> tuple[str, ...]:
        """The groups that a `sub` of this configuration serves, sorted."""
        return self.groups if self.sub.groups is None else _sorted(set(self.sub.groups))

    def kafka_settings(self) -> dict[str, str | int | float | bool]:
        """The librdkafka settings with every secret read afresh. Raises ValueError when one cannot be read."""
        return {key: value.read() if isinstance(value, Secret) else value for key, value in self.kafka.items()}


def _sorted(groups: set[str]) -> tuple[str, ...]:
    """Shorter ones first, so that "10" comes after "9": a hash of n groups then means the group of that number."""
    return tuple(sorted(groups, key=lambda group: (len(group), group)))
