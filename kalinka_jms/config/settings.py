"""The settings: what the one TOML file may say, with defaults. Loading and checking is in `config`.

The description of a field says what would be right for it: it is the text a user reads when the value is wrong.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kalinka_jms.config.fields import (
    GROUP,
    NAME,
    Address,
    Age,
    Count,
    Envelope,
    Interval,
    KafkaTable,
    KafkaTopic,
    MqttAddress,
    Queue,
    Seconds,
    SecretValue,
    Switch,
    split_address,
)
from kalinka_jms.config.secret import Secret
from kalinka_jms.config.table import Table
from kalinka_jms.config.tls import Tls

MIB = 1024 * 1024


class Broker(Table):
    """One standalone ActiveMQ broker."""

    name: str = Field(pattern=NAME, description='a name like "dev1" (letters, digits, . _ -; at most 64)')
    """How Kalinka calls it, in logs, in `kalinka.id` and in the registry. A new name is a new broker."""
    stomp: Address = Field(description='an address like "stomp://host:61613"')
    """Its STOMP connector; `stomps://` for TLS."""
    mqtt: MqttAddress | None = Field(
        default=None,
        description='an address like "mqtt://host:1883": where devices connect; only `config check --connect` uses it, '
        "and tries port 1883 of the STOMP host without it",
    )
    """Its MQTT connector, which no service uses."""
    group: str = Field(default="0", pattern=GROUP, description='a group like "0" (letters, digits, _ -; at most 32)')
    """The group of brokers it belongs to (the `{group}` of the routes)."""
    login: str | None = Field(default=None, min_length=1, description="a login")
    """The user by which Kalinka logs in."""
    passcode: SecretValue | None = Field(default=None, description="a secret")
    """That user's password. It is read afresh at every connection."""
    tls: Tls | None = Field(default=None, description="a table with ca, cert, key, key_password, verify")
    """Certificates, for `stomps://`."""
    heartbeat: Interval = Field(default=2.5, description="seconds, 0.1 to 600")
    """Seconds between signs of life in both directions; a link without any for 2.6 times as long is lost. A
    process that stands still is replaced by its broker after 7 times as long (29 s with 4, tried)."""

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


class ZookeeperAuth(Table):
    """How to log in to ZooKeeper. `sasl` is DIGEST-MD5."""

    scheme: Literal["digest", "sasl"] = Field(default="digest", description='"digest" or "sasl"')
    """The method; `sasl` is DIGEST-MD5."""
    user: str = Field(min_length=1, description="a user name")
    """The user."""
    password: SecretValue = Field(description="a secret")
    """The password. It is read afresh at every connection."""


class Zookeeper(Table):
    """The ZooKeeper ensemble that holds the registry."""

    hosts: str = Field(
        pattern=r"^[^\s,/:]+:\d{1,5}(,[^\s,/:]+:\d{1,5})*(/[^\s,]+)?$",
        description='servers with ports, like "zk1:2181,zk2:2181"',
    )
    """The servers of the ensemble. A path after the last one is the root of everything (chroot)."""
    root: str = Field(
        default="/kalinka/devices",
        pattern=r"^(/[^/\s]+){2,}$",
        description='a path of two names or more, like "/kalinka/devices" (its parent holds more of Kalinka\'s nodes)',
    )
    """Where the devices stand. What else Kalinka keeps stands beside it: brokers, watchers, instances."""
    session_timeout: Interval = Field(default=4.0, description="seconds, 0.1 to 600")
    """Seconds after which a silent process loses its offices (such as watching a broker) to another. ZooKeeper looks
    only once a tick (2 seconds by default), so it may take that much longer, and grants no less than two ticks."""
    auth: ZookeeperAuth | None = Field(default=None, description="a table with scheme, user, password")
    """How to log in; what Kalinka creates is then its own alone."""
    tls: Tls | None = Field(default=None, description="a table with ca, cert, key, key_password, verify")
    """TLS to ZooKeeper; an empty table means TLS by the system's authorities."""


class Pub(Table):
    """`kalinka pub`: broker → Kafka."""

    queues: tuple[Queue, ...] = Field(
        default=("kalinka.mqtt.pub", "kalinka.sparkcluster.pub"),
        min_length=1,
        description='names of queues, like "kalinka.mqtt.pub" (no "/queue/" before it; no blank, "," or "?")',
    )
    """The brokers' queues from which messages are taken; the same on all brokers."""
    exclusive: Switch = Field(default=True, description="true (order kept) or false (throughput before order)")
    """Whether one instance at a time reads a queue, which keeps the order."""
    prefetch: Annotated[Count, Field(le=30_000)] = Field(
        default=1000, description="messages, 1 to 30000 (1000 to 2000 is best)"
    )
    """Messages that a broker sends ahead of their acknowledgement, from each queue."""
    max_bytes: Count = Field(default=64 * MIB, description="bytes, the most that may be in flight from one broker")
    """Beyond this nothing more is read from the broker until Kafka has confirmed some."""
    verify_source: Switch = Field(default=False, description="true (logins on all brokers) or false")
    """Whether a message is dead whose `{source}` is not the user who sent it. The brokers must want logins, and have
    `populateJMSXUserID="true"`; see security.md."""


class Sub(Table):
    """`kalinka sub`: Kafka → owning broker."""

    groups: tuple[str, ...] | None = Field(default=None, min_length=1, description='groups of brokers, like ["0"]')
    """The groups that instances with this file serve; all groups of the brokers where it is not given."""
    consumer_group: str = Field(
        default="kalinka-sub", min_length=1, max_length=249, description="the name of a Kafka group"
    )
    """Kafka's `group.id`. Another name begins at the oldest records."""
    window_records: Count = Field(default=10_000, description="records, at least 1")
    """Records taken from Kafka that have no outcome yet, at most, in one instance."""
    window_bytes: Count = Field(default=64 * MIB, description="bytes, at least 1")
    """Their bytes, at most."""
    transaction: Count = Field(default=200, description="records of one STOMP transaction, at least 1")
    """Records sent to a broker at once."""
    transactions_in_flight: Count = Field(default=4, description="transactions in flight on one link, at least 1")
    """How many such transactions may wait for their evidence, on each broker."""
    index_bytes: Count = Field(default=512 * MIB, description="bytes, at least 1")
    """Memory for the index of what is parked, in one instance: about 200 bytes a record, up to 700 for a device's only
    one. When it is full nothing more is taken from Kafka, also for devices that are there, until some of it was
    replayed, expired or dropped: what cannot be found again must not be parked, and nothing is dropped unasked. `ttl`
    and `max_parked` keep that from happening; more instances share the index among them."""
    ack_timeout: Seconds = Field(default=10.0, description="seconds, more than 0")
    """How long a record may wait for its broker, or for word of its device, before it is parked."""
    echo_timeout: Seconds = Field(default=10.0, description="seconds, more than 0")
    """How long evidence may be outstanding before the link counts as broken."""
    ttl: Age | None = Field(default=None, description="seconds, more than 0; without it nothing expires by age")
    """How long a record is of use, from its Kafka timestamp on. One that was not sent by then is `expired`: wherever it
    waits, and also while it is parked."""
    max_parked: Count | None = Field(default=None, description="records, at least 1; without it there is no limit")
    """How many records of one route are kept parked for one device. One more, and the oldest is `expired`: what came
    last, the newest state or command, is what the device finds when it is back."""
    max_hops: Count = Field(default=3, description="hand-overs between groups, at least 1")
    """How often a record may be handed to another group before it is parked."""


class Registry(Table):
    """`kalinka registry`: who listens where."""

    grace: Seconds = Field(default=10.0, description="seconds that what a lost broker held still counts")
    """A broker that is back within this time was never away."""
    resync: Seconds = Field(default=300.0, description="seconds between two reconciliations with a broker")
    """How often all subscriptions on a broker are read again, should one have been missed."""


class UpRoute(Table):
    """MQTT → Kafka."""

    from_: str = Field(
        validation_alias="from", description='a template like "mqtt/{source}/mqtt/{device}/pub"', min_length=1
    )
    """The MQTT topics it takes. `{name}` is one level, `{name#}` the rest."""
    topic: str = Field(description='a template like "{group}.mqtt.mqtt"', min_length=1)
    """The Kafka topic. It may use the names in `from`, and `{group}`."""
    key: str = Field(description='a template like "{device}"', min_length=1)
    """The record's key. It may use the names in `from`."""
    envelope: Envelope = Field(default="plain", description='"plain" or "reference"')
    """How the source goes along: `plain` in a header, `reference` in 64 bytes of JSON before the payload."""
    group_by: Literal["device", "source"] = Field(default="device", description='"device" or "source"')
    """Whose hash chooses the group: the device's (the source's where there is none), or the source's."""


class DownRoute(Table):
    """Kafka → MQTT."""

    from_: str = Field(validation_alias="from", description='a template like "{group}.mqtt.mqtt"', min_length=1)
    """The Kafka topic it reads. It may use `{group}` only."""
    to: str = Field(description='a template like "mqtt/{source}/mqtt/{device}/sub"', min_length=1)
    """The MQTT topic on which the device gets it. It may use `{device}`, `{source}` and `{group}`."""
    qos: Annotated[int, Field(strict=True, ge=0, le=2)] = Field(default=1, description="0, 1 or 2")
    """The QoS at most; a record's header `mqtt.qos` and the subscription may lower it."""
    delivery: Literal["broker", "device"] = Field(default="broker", description='"broker" or "device"')
    """What `delivered` rests on. `broker`: the owning broker took it and had a subscriber for it. `device`: the device
    acknowledged it (a persistent session with QoS 1 or 2), or it was written to the device's own connection (a clean
    one); that needs brokers that tell so (`kalinka broker-config --delivery-device`), and costs throughput."""
    envelope: Envelope = Field(default="plain", description='"plain" or "reference"')
    """How the source comes along, as in the up route that writes the topic."""
    ack_timeout: Seconds | None = Field(default=None, description="seconds, more than 0; without it that of [sub]")
    """As that of `[sub]`, for this route."""
    ttl: Age | None = Field(default=None, description="seconds, more than 0; without it that of [sub]")
    """As that of `[sub]`, for this route."""
    max_parked: Count | None = Field(default=None, description="records, at least 1; without it that of [sub]")
    """As that of `[sub]`, for this route."""


DEFAULT_UP = (
    UpRoute(from_="mqtt/{source}/mqtt/{device}/pub", topic="{group}.mqtt.mqtt", key="{device}"),
    UpRoute(from_="mqtt/{source}/sparkcluster/pub", topic="{group}.mqtt.sparkcluster", key="{source}"),
)
DEFAULT_DOWN = (
    DownRoute(from_="{group}.mqtt.mqtt", to="mqtt/{source}/mqtt/{device}/sub"),
    DownRoute(from_="{group}.sparkcluster.mqtt", to="sparkcluster/mqtt/{device}/sub"),
)


class Routes(Table):
    """Both directions. A list that the file does not give is the default one; a list it gives replaces it."""

    up: tuple[UpRoute, ...] = Field(default=DEFAULT_UP, description="tables [[routes.up]]")
    """MQTT to Kafka; the first that matches wins."""
    down: tuple[DownRoute, ...] = Field(default=DEFAULT_DOWN, description="tables [[routes.down]]")
    """Kafka to MQTT."""


class Settings(Table):
    """The whole file."""

    brokers: tuple[Broker, ...] = Field(min_length=1, description="at least one table [[brokers]]")
    """Every broker, one table each."""
    kafka: KafkaTable = Field(description='a table [kafka] with "bootstrap.servers"')
    """The Kafka cluster, in librdkafka's settings."""
    zookeeper: Zookeeper = Field(description='a table [zookeeper] with hosts = "host:2181"')
    """The ZooKeeper ensemble."""
    pub: Pub = Field(default=Pub(), description="a table [pub]")
    """What `kalinka pub` does."""
    sub: Sub = Field(default=Sub(), description="a table [sub]")
    """What `kalinka sub` does."""
    registry: Registry = Field(default=Registry(), description="a table [registry]")
    """What `kalinka registry` does."""
    routes: Routes = Field(default=Routes(), description="tables [[routes.up]] and [[routes.down]]")
    """The routes."""
    dead: KafkaTopic = Field(default="kalinka.dead", description="the name of a Kafka topic")
    """The dead-letter topic: what can never be mapped or delivered goes there, with the reason."""

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
