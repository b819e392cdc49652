"""A device of the check's own: it connects to a broker as devices do, and subscribes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

from kalinka_jms.config import Broker, Tls
from kalinka_jms.config.fields import split_mqtt

if TYPE_CHECKING:
    from paho.mqtt.client import Client

TIMEOUT = 5.0
"""Seconds for each answer."""


class NotTried(Exception):
    """No device could be tried: nobody answers."""


class NotInstalled(NotTried):
    """The MQTT client library is not there."""


class Refused(NotTried):
    """The broker said no."""


def address(broker: Broker) -> str:
    """Where devices connect."""
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    return broker.mqtt or f"mqtt://{host}:1883"


@contextmanager
def listening(broker: Broker, filters: Sequence[str], qos: int = 0, *, persistent: bool = False) -> Iterator[None]:
    """A session that listens to these MQTT filters, with the login that Kalinka has; nothing of it stays.

    Raises NotTried where it cannot listen.
    """
    id = f"kalinka-probe-{uuid.uuid4().hex[:8]}"
    with _session(broker, filters, qos, id, clean=not persistent):
        yield
    if persistent:  # a clean one of the same id ends it
        with _session(broker, (), qos, id, clean=True):
            pass


@contextmanager
def _session(broker: Broker, filters: Sequence[str], qos: int, id: str, *, clean: bool) -> Iterator[None]:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise NotInstalled("the package paho-mqtt is missing") from None
    client = Client(CallbackAPIVersion.VERSION2, client_id=id, clean_session=clean)
    device = _Device(client, filters, qos)
    try:
        _connect(client, broker)
        device.wait(address(broker))
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def _connect(client: Client, broker: Broker) -> None:
    where = split_mqtt(address(broker))
    client.connect_timeout = TIMEOUT
    try:
        if broker.login is not None:
            client.username_pw_set(broker.login, broker.passcode.read() if broker.passcode else None)
        if where.scheme == "mqtts":
            client.tls_set_context((broker.tls or Tls()).context())
        client.connect(where.hostname or "", where.port or 0)
    except (OSError, ValueError) as error:  # ValueError: a secret or a certificate that cannot be read now
        raise NotTried(f"cannot connect to {address(broker)}: {getattr(error, 'strerror', None) or error}") from error
    client.loop_start()


class _Device:
    """What the broker answered."""

    def __init__(self, client: Client, filters: Sequence[str], qos: int) -> None:
        self._filters = filters
        self._qos = qos
        self._answered = Event()
        self._refused = ""
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed

    def wait(self, where: str) -> None:
        """Return when it listens."""
        if not self._answered.wait(TIMEOUT):
            raise NotTried(f"no answer from {where} within {TIMEOUT:.0f} s")
        if self._refused:
            raise Refused(self._refused)

    def _connected(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = f"the login is refused ({reason})"
            self._answered.set()
        elif self._filters:
            client.subscribe([(filter, self._qos) for filter in self._filters])
        else:
            self._answered.set()

    def _subscribed(self, _client: Client, _data: Any, _mid: int, reasons: Sequence[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = f"it may not subscribe to {', '.join(self._filters)}"
        self._answered.set()
