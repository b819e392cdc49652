"""The devices of the load: many MQTT clients in one thread, which enter what was PUBACKed and what they received.

A real client a thread would cost more CPU than the bridge; so paho's clients are driven by one selector. Everything
that touches a device runs on that thread: others hand it work with `do`.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from kalinka_jms.lab.device import MqttBroker
from tests.chaos.device import Device, Session
from tests.chaos.judge import Judge
from tests.chaos.message import BACK_END, Stream, decode, encode
from tests.chaos.verdict import Window
from tests.chaos.work import Work

TICK = 0.01
"""Seconds between two turns of the pacing."""
RETRY = 0.5
"""Seconds between two attempts to connect."""
CONNACK = 5.0
"""Seconds a broker has for CONNACK and SUBACK, before the device tries again (or elsewhere, where it roams)."""
LINGER = 0.3
"""Seconds that a device which unsubscribed still reads, before it disconnects."""
IN_FLIGHT = 100
"""Messages without a PUBACK at which a device falls silent."""


class Fleet:
    """Devices that speak at `rate` messages a second together: every other message to the back end, else to a peer."""

    def __init__(
        self,
        judge: Judge,
        run: str,
        names: Sequence[str],
        brokers: Sequence[MqttBroker],
        *,
        clean: bool,
        size: int = 256,
        waits: bool = False,
    ) -> None:
        """`waits`: a message that waits in a session which was left behind counts as delivered."""
        self.brokers = tuple(brokers)
        self.devices = {name: Device(name, _peers(names, at), clean) for at, name in enumerate(names)}
        self.rate = 0.0
        self.failure: Exception | None = None
        self.broken: Callable[[Window], None] = lambda _: None
        """Told of every connection that broke: the window that somebody has to close."""
        self.reached: Callable[[str, str, float], None] = lambda *_: None
        """Told of the first message that a device gets on a new connection, and that did not wait there for it."""
        self._judge = judge
        self._waits = waits
        self._run_id = run
        self.size = self.usual = size
        self.keepalive = 10
        self._selector = selectors.DefaultSelector()
        self._work = Work()
        self.do, self.call = self._work.do, self._work.call
        self._over = Event()
        self._due = 0.0
        self._turn = 0
        self._thread = Thread(target=self._run, name="fleet", daemon=True)

    # -- from other threads

    def start(self) -> None:
        """Connect every device to its broker, in turn."""
        for at, device in enumerate(self.devices.values()):
            device.target = self.brokers[at % len(self.brokers)]
        self._thread.start()

    def stop(self) -> None:
        """Disconnect everything."""
        self._over.set()
        self._thread.join()

    @property
    def listening(self) -> list[str]:
        """Devices that listen now."""
        return [device.name for device in self.devices.values() if device.listening]

    def at(self, broker: str) -> list[str]:
        """Devices that listen at a broker now."""
        here = [device for device in self.devices.values() if device.listening]
        return [device.name for device in here if device.session is not None and device.session.broker.name == broker]

    def oldest(self) -> float:
        """When the oldest message without a PUBACK was sent; now, where there is none."""

        def look() -> float:
            sessions = [device.session for device in self.devices.values() if device.session is not None]
            firsts = [next(iter(session.in_flight.values()))[2] for session in sessions if session.in_flight]
            return min(firsts, default=time.monotonic())

        return float(self.call(look))

    def stalled(self, broker: str) -> float:
        """For how long the oldest message without a PUBACK waits, at a broker; 0 where there is none."""

        def look() -> float:
            here = [one.session for one in self.devices.values() if one.session and one.session.broker.name == broker]
            firsts = [next(iter(session.in_flight.values()))[2] for session in here if session.in_flight]
            return time.monotonic() - min(firsts) if firsts else 0.0

        return float(self.call(look))

    def move(self, name: str, broker: MqttBroker) -> None:
        """Leave cleanly between two messages, and join another broker (or the same)."""

        def move() -> None:
            device = self.devices[name]
            device.target = broker
            if device.session is not None:
                device.session.leaving = True

        self.call(move)

    def broker(self, name: str) -> MqttBroker:
        """Where devices connect to the broker of that name."""
        return next(broker for broker in self.brokers if broker.name == name)

    def go(self, name: str, broker: MqttBroker) -> None:
        """Connect to a broker afresh; what there was is broken off."""
        self.cut(name, broker)

    def vanish(self, name: str, broker: MqttBroker | None) -> None:
        """Stop speaking to the broker (something else has to keep the connection open there); join another, or none."""

        def vanish() -> None:
            device = self.devices[name]
            self._lost(device)
            device.target, device.retry_at = broker, 0.0

        self.call(vanish)

    def stop_reading(self, name: str) -> None:
        """The device reads no more, and says nothing; its connection stays."""

        def stop() -> None:
            device = self.devices[name]
            if device.session is not None:
                device.session.deaf = True
                device.session.leaving = True
                self._tell(device, device.session)
                self._socket_close(device.session.client.socket())

        self.call(stop)

    def cut(self, name: str, broker: MqttBroker | None = None) -> None:
        """Break the connection as a lost network would: no DISCONNECT, nothing read any more; then join `broker`."""

        def cut() -> None:
            device = self.devices[name]
            self._lost(device)
            device.target = broker or device.target
            device.retry_at = 0.0

        self.call(cut)

    # -- the thread

    def _run(self) -> None:
        try:
            last = misc = time.monotonic()
            while not self._over.is_set():
                for key, _ in self._selector.select(TICK):
                    self._read(key.data)
                now = time.monotonic()
                if now - last >= TICK:
                    self._tick(now)
                    self._speak(now - last)
                    last = now
                if now - misc >= 1.0:
                    self._misc()
                    misc = now
                self._work.turn()
        except Exception as error:
            self.failure = error
            raise
        finally:
            for device in self.devices.values():
                self._close(device)

    def _tick(self, now: float) -> None:
        for device in self.devices.values():
            session = device.session
            if session is None:
                if device.target is not None and now >= device.retry_at:
                    self._connect(device, now)
                continue
            if session.client.want_write():
                session.client.loop_write()
            if session.deaf:
                continue
            if session.leaving:
                self._leave(device, session, now)
            elif not session.listening and now - session.since > CONNACK:
                self._lost(device)

    def _leave(self, device: Device, session: Session, now: float) -> None:
        if session.in_flight and now - session.since < CONNACK:
            return
        if not session.asked:
            session.asked = True
            self._tell(device, session)  # the broker drops what it dispatches as it takes UNSUBSCRIBE
            if device.clean:
                session.client.unsubscribe([topic for topic, _ in device.filters])
        if not device.clean or (session.unsubscribed is not None and now - session.unsubscribed > LINGER):
            self._close(device)

    def _connect(self, device: Device, now: float) -> None:
        assert device.target is not None
        client = Client(CallbackAPIVersion.VERSION2, client_id=device.name, clean_session=device.clean)
        client.connect_timeout = 1.0
        client.max_inflight_messages_set(IN_FLIGHT)
        session = Session(client, device.target, now)
        client.on_connect = lambda *_: _ignore(client.subscribe(device.filters))
        client.on_subscribe = lambda *_: setattr(session, "listening", True)
        client.on_unsubscribe = lambda *_: setattr(session, "unsubscribed", time.monotonic())
        client.on_publish = lambda _client, _data, mid, *_: self._acknowledged(session, mid)
        client.on_message = lambda _client, _data, message: self._arrived(device, session, message)
        # paho closes a broken socket wherever it notices, and the next one that opens may have its number
        client.on_socket_open = lambda _client, _data, sock: self._socket_open(sock, device)
        client.on_socket_close = lambda _client, _data, sock: self._socket_close(sock)
        try:
            client.connect(device.target.host, device.target.port, device.keepalive)
        except OSError:
            self._again(device)
            return
        device.session = session

    def _socket_open(self, sock: Any, device: Device) -> None:
        self._selector.register(sock, selectors.EVENT_READ, device)

    def _socket_close(self, sock: Any) -> None:
        with suppress(KeyError, ValueError, RuntimeError):  # not heard any more, closed by now, or by the collector
            self._selector.unregister(sock)

    def _read(self, device: Device) -> None:
        session = device.session
        if session is not None and session.client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost(device)

    def _misc(self) -> None:
        for device in self.devices.values():
            session = device.session
            if session is None or session.deaf:
                continue
            if session.client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lost(device)

    def _lost(self, device: Device) -> None:
        """The connection broke, or is broken."""
        session = device.session
        if session is None:
            return
        if session.listening and not session.asked and not session.deaf:
            self._tell(device, session)
        self._close(device, politely=False)
        self._again(device)

    def _tell(self, device: Device, session: Session) -> None:
        now, broker = time.monotonic(), session.broker.name
        self.broken(self._judge.broke(device.name, now, keeps=not device.clean, broker=broker))

    def _again(self, device: Device) -> None:
        device.retry_at = time.monotonic() + RETRY
        if device.roams and device.target is not None:
            at = [broker.name for broker in self.brokers].index(device.target.name)
            device.target = self.brokers[(at + 1) % len(self.brokers)]

    def _close(self, device: Device, *, politely: bool = True) -> None:
        session, device.session = device.session, None
        if session is None:
            return
        sock = session.client.socket()
        self._socket_close(sock)
        if politely:
            session.client.disconnect()
        if sock is not None:
            sock.close()

    def _speak(self, elapsed: float) -> None:
        self._due = min(self._due + elapsed * self.rate, self.rate / 5)
        names = list(self.devices.values())
        for _ in range(len(names)):
            if self._due < 1:
                return
            self._turn += 1
            device = names[self._turn % len(names)]
            if device.listening and device.session is not None and len(device.session.in_flight) < IN_FLIGHT:
                self._send(device, device.session)
                self._due -= 1

    def _send(self, device: Device, session: Session) -> None:
        device.turn += 1
        to_back_end = device.turn % 2 or not device.peers
        destination = BACK_END if to_back_end else device.peers[device.turn // 2 % len(device.peers)]
        stream = Stream(device.name, destination, session.broker.name)
        now = time.monotonic()
        number = self._judge.send(stream, now)
        topic = f"mqtt/{device.name}/{BACK_END}/pub" if to_back_end else f"mqtt/{device.name}/mqtt/{destination}/pub"
        info = session.client.publish(topic, encode(self._run_id, stream, number, self.size), qos=1)
        session.in_flight[info.mid] = (stream, number, now)

    def _acknowledged(self, session: Session, mid: int) -> None:
        entry = session.in_flight.pop(mid, None)
        if entry is not None:
            self._judge.promise("up", entry[0], entry[1])

    def _arrived(self, device: Device, session: Session, message: MQTTMessage) -> None:
        found, now = decode(self._run_id, bytes(message.payload)), time.monotonic()
        if found is None:
            return
        # what waited here in a session that was left behind does not tell that the bridge knows where the device is
        if not session.reached and not (self._waits and self._judge.sent(*found) < session.since):
            session.reached = True
            self.reached(device.name, session.broker.name, now)
        place = session.broker.name if self._waits else ""
        self._judge.arrive("down", *found, device.name, now, place, again=bool(message.dup) and not device.clean)


def _ignore(_: object) -> None:
    """What a callback must not return."""


def _peers(names: Sequence[str], at: int) -> tuple[str, ...]:
    """The two devices after it: so that the streams stay few, and a peer is mostly at another broker."""
    return tuple({names[(at + step) % len(names)] for step in (1, 2)} - {names[at]})
