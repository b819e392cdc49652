"""A device of the fleet: where it wants to be, and its connection. Only the fleet's thread touches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from paho.mqtt.client import Client

from kalinka_jms.lab.device import MqttBroker
from tests.chaos.message import BACK_END, Stream


@dataclass(slots=True)
class Device:
    """One device: where it wants to be, and its connection."""

    name: str
    peers: tuple[str, ...]
    clean: bool = True
    keepalive: int = 10
    roams: bool = False
    target: MqttBroker | None = None
    session: Session | None = None
    retry_at: float = 0.0
    reads: bool = True
    turn: int = 0

    @property
    def filters(self) -> list[tuple[str, int]]:
        return [(f"mqtt/+/mqtt/{self.name}/sub", 1), (f"{BACK_END}/mqtt/{self.name}/sub", 1)]

    @property
    def listening(self) -> bool:
        return self.session is not None and self.session.listening and not self.session.leaving

    @property
    def at_target(self) -> bool:
        """It listens where it wants to be."""
        session = self.session
        return self.listening and session is not None and session.broker == self.target


@dataclass(slots=True)
class Session:
    """One connection of a device."""

    client: Client
    broker: MqttBroker
    since: float
    listening: bool = False
    leaving: bool = False
    unsubscribed: float | None = None
    asked: bool = False
    reached: bool = False
    deaf: bool = False
    in_flight: dict[int, tuple[Stream, int, float]] = field(default_factory=dict)
