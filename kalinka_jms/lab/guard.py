"""What keeps strangers out of a broker: TLS, users, and what each of them may do. Pieces of its activemq.xml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from xml.sax.saxutils import quoteattr

from kalinka_jms.errors import LabError
from kalinka_jms.names import refusal

_DEVICE = (
    ("mqtt.{}.mqtt.*.pub", "write"),
    ("mqtt.{}.sparkcluster.pub", "write"),
    ("mqtt.*.mqtt.{}.sub", "read"),
    ("sparkcluster.mqtt.{}.sub", "read"),
)
"""What a device may do; it is the admin of the same, as the topics are made when they are first used."""

_ANYBODY = """
  <!-- Anybody who reaches the ports may do anything. Before other networks reach them have it print TLS and logins, too
       (kalinka broker-config, options tls and devices). -->
"""
_PLAIN_PROPERTIES = '<bean class="org.springframework.beans.factory.config.PropertyPlaceholderConfigurer"/>'
_START = '\n          start="false"'


@dataclass(frozen=True, slots=True)
class Guard:
    """`devices`: the only ones that may connect, beside Kalinka's own `user`; None: no logins.

    Raises LabError for a device that no user can be called by.
    """

    tls: bool = False
    devices: Sequence[str] | None = None
    user: str = "kalinka"

    def __post_init__(self) -> None:
        for device in self.devices or ():
            reason = refusal(device) or ("it is Kalinka's own user" if device == self.user else None)
            if reason:
                raise LabError(f"device {device!r}: {reason}")

    def pieces(self) -> dict[str, str]:
        """What the template of activemq.xml has holes for."""
        users = self.devices is not None
        return {
            "anybody": "" if users else _ANYBODY,
            "properties": _part("properties") if self.tls else _PLAIN_PROPERTIES,
            "start": _START if users else "",
            "start_comment": "\n       start: the reloading of rights needs a broker that is not started too early."
            * users,
            "plugins": self._plugins() + "\n" if users else "",
            "ssl": _part("ssl") + "\n" if self.tls else "",
            "nio": "nio+ssl" if self.tls else "nio",
            "stomp_io": "ssl" if self.tls else "nio",
            "openwire": "ssl" if self.tls else "tcp",
        }

    def _plugins(self) -> str:
        rights = "\n".join(_entry(device) for device in self.devices or ())
        return Template(_part("users")).substitute(user=quoteattr(self.user), devices=rights)


OPEN = Guard()
"""Nobody is kept out."""


def _entry(device: str) -> str:
    """The rights of one device, on one line: with 10,000 of them a file should still be read."""
    name = quoteattr(device)
    rights = ((quoteattr(topic.format(device)), right) for topic, right in _DEVICE)
    entries = (f"<authorizationEntry topic={topic} {right}={name} admin={name}/>" for topic, right in rights)
    return f"              {''.join(entries)}"


def _part(name: str) -> str:
    return (files(__package__) / "templates" / f"activemq-{name}.xml").read_text().rstrip("\n")
