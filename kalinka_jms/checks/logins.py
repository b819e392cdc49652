"""Does the broker know, and tell, who sent a message? For `[pub] verify_source`."""

from __future__ import annotations

from collections.abc import Iterator

from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.config import Broker
from kalinka_jms.config.secret import Secret
from kalinka_jms.errors import LinkError
from kalinka_jms.pub.sender import USER
from kalinka_jms.stomp.link import Link

WRONG = Secret(plain="kalinka-check: a wrong passcode")


def look(broker: Broker, user: str | None) -> Iterator[Finding]:
    """`user`: whom the broker names as the sender of what we sent. Tries logins that must be refused."""
    if user is None:
        yield Finding(
            broker.name,
            Kind.FINDING,
            f"it does not say who sent a message (no {USER}): with verify_source all of them would be dead letters",
            'set populateJMSXUserID="true" on <broker> in its activemq.xml, and have it want logins',
        )
        return
    remedy = "have its authentication plugin refuse it: `kalinka broker-config --devices` prints one"
    if _accepts(broker.model_copy(update={"passcode": WRONG, "login": broker.login or "kalinka-check"})):
        means = "it takes any passcode: everybody can log in as any device, and verify_source proves nothing"
        yield Finding(broker.name, Kind.FINDING, means, remedy)
    elif _accepts(broker.model_copy(update={"passcode": None, "login": None})):
        means = "it lets in who has no login: a source of that user's name would be believed"
        yield Finding(broker.name, Kind.FINDING, means, remedy)
    else:
        yield Finding(broker.name, Kind.FINE, f"it says who sent a message, and refuses wrong logins (we are {user})")


def _accepts(broker: Broker) -> bool:
    link = Link(broker, lambda _: None)
    try:
        link.connect()
        link.disconnect()
    except LinkError:
        return False
    return True
