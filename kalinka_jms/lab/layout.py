"""What a lab consists of: which servers, on which addresses and ports, with its data where."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from kalinka_jms.errors import LabError

Profile = Literal["small", "full"]
Kind = Literal["activemq", "kafka", "zookeeper"]
PROFILES: tuple[str, ...] = get_args(Profile)
BASE_ADDRESS = "127.0.33.20"
NODES = ("dev1", "dev2", "dev3")


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP port of each protocol, the same on every node's address."""

    mqtt: int = 1883
    stomp: int = 61613
    openwire: int = 61616
    kafka: int = 9092
    controller: int = 9093
    zookeeper: int = 2181
    quorum: int = 2888
    election: int = 3888


@dataclass(frozen=True, slots=True)
class Service:
    """One server process: `name` as in `dev1.kafka`, `number` its node's (1-3), `port` what its clients use first."""

    name: str
    node: str
    number: int
    kind: Kind
    address: str
    ports: dict[str, int]

    @property
    def port(self) -> int:
        """The port of its clients: MQTT for a broker."""
        return next(iter(self.ports.values()))


@dataclass(frozen=True, slots=True)
class Layout:
    """A lab: its profile, its first address (the nodes take it and the two after it), its ports and its directory."""

    state: Path
    profile: Profile = "small"
    base_address: str = BASE_ADDRESS
    ports: Ports = field(default_factory=Ports)
    delivery_device: bool = False
    """Whether the brokers tell what routes with delivery = "device" need; it costs throughput."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of dev1, dev2 and dev3."""
        first = ipaddress.ip_address(self.base_address)
        return tuple(str(first + index) for index in range(len(NODES)))

    @property
    def replication(self) -> int:
        """Copies of every Kafka partition."""
        return 3 if self.profile == "full" else 1

    @property
    def services(self) -> tuple[Service, ...]:
        """Every server of the profile, brokers first."""
        clustered = len(NODES) if self.profile == "full" else 1
        counts: tuple[tuple[Kind, int], ...] = (
            ("activemq", len(NODES)),
            ("kafka", clustered),
            ("zookeeper", clustered),
        )
        return tuple(self._service(kind, index) for kind, count in counts for index in range(count))

    def of(self, kind: Kind) -> tuple[Service, ...]:
        """The servers of one kind."""
        return tuple(service for service in self.services if service.kind == kind)

    @property
    def bootstrap(self) -> str:
        """Kafka's bootstrap.servers."""
        return self._hosts("kafka")

    @property
    def zookeeper(self) -> str:
        """ZooKeeper's hosts."""
        return self._hosts("zookeeper")

    def service(self, name: str) -> Service:
        """The server of that name; raises LabError, naming those there are."""
        for service in self.services:
            if service.name == name:
                return service
        known = ", ".join(service.name for service in self.services)
        raise LabError(f"there is no {name} in a {self.profile} lab; it has {known}")

    def directory(self, service: Service) -> Path:
        """Where one server keeps its files; apart by profile, as the data of a cluster fits no other."""
        return self.state / self.profile / service.name

    def log(self, service: Service) -> Path:
        """The file that takes what a server prints."""
        return self.state / "log" / f"{service.name}.log"

    def to_json(self) -> dict[str, Any]:
        """What `from_json` needs, without the directory that holds it."""
        return {
            "profile": self.profile,
            "base_address": self.base_address,
            "ports": asdict(self.ports),
            "delivery_device": self.delivery_device,
        }

    def _hosts(self, kind: Kind) -> str:
        return ",".join(f"{one.address}:{one.port}" for one in self.of(kind))

    def _service(self, kind: Kind, index: int) -> Service:
        node = NODES[index]
        ports = {name: getattr(self.ports, name) for name in self._port_names(kind)}
        return Service(f"{node}.{kind}", node, index + 1, kind, self.addresses[index], ports)

    def _port_names(self, kind: Kind) -> tuple[str, ...]:
        ensemble = ("zookeeper", "quorum", "election") if self.profile == "full" else ("zookeeper",)
        return {"activemq": ("mqtt", "stomp", "openwire"), "kafka": ("kafka", "controller"), "zookeeper": ensemble}[
            kind
        ]


def from_json(state: Path, saved: dict[str, Any]) -> Layout:
    """The layout that `to_json` wrote."""
    ports, device = Ports(**saved["ports"]), saved.get("delivery_device", False)
    return Layout(state, saved["profile"], saved["base_address"], ports, device)


def parse_profile(text: str) -> Profile:
    """`small` or `full`; raises LabError."""
    match text:
        case "small" | "full":
            return text
    raise LabError(f"profile {text!r}: it is small or full")


def parse_address(text: str) -> str:
    """An IPv4 address with room for two more after it; raises LabError."""
    try:
        address = ipaddress.IPv4Address(text)
        _ = address + (len(NODES) - 1)
    except ValueError:
        raise LabError(f"address {text!r}: give the IPv4 address of dev1, such as {BASE_ADDRESS}") from None
    return str(address)


def parse_ports(items: list[str]) -> Ports:
    """Ports from `name=number` items, the usual ones where not named; raises LabError."""
    known = [port.name for port in fields(Ports)]
    given: dict[str, int] = {}
    for item in items:
        name, _, number = item.partition("=")
        if name not in known or not number.isdigit() or not 0 < int(number) < 65536:
            raise LabError(f"port {item!r}: write NAME=NUMBER, NAME one of {', '.join(known)}")
        given[name] = int(number)
    return Ports(**given)


def default_state() -> Path:
    """The lab's directory: KALINKA_LAB_STATE, else kalinka/lab in the user's state directory (XDG)."""
    if given := os.environ.get("KALINKA_LAB_STATE"):
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state").resolve() / "kalinka" / "lab"


def default_layout(state: Path) -> Layout:
    """The layout of a lab of which nothing is given: KALINKA_LAB_ADDRESS and KALINKA_LAB_PORTS count."""
    ports = [item for item in os.environ.get("KALINKA_LAB_PORTS", "").split(",") if item]
    address = parse_address(os.environ.get("KALINKA_LAB_ADDRESS") or BASE_ADDRESS)
    return Layout(state, "small", address, parse_ports(ports))
