"""An observer of each broker: it says when the broker itself saw a subscription end.

The windows of the judge are closed by it, so what is excused is what the broker could not know, and nothing else. It
takes the same advisories as the registry, over a link of its own, and asks nothing of the bridge.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from kalinka_jms.config import Broker
from kalinka_jms.errors import FrameError, LinkError, LinkLost
from kalinka_jms.registry.advisories import Begun, Ended, parse
from kalinka_jms.registry.term import CONSUMERS
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link
from tests.chaos.verdict import Window

AGAIN = 0.5
"""Seconds between two attempts to reach a broker."""
PATIENT = 600.0
"""Seconds between heart-beats: a paused broker must not look like a dead one."""

HIDDEN = "what no broker tells"


@dataclass(slots=True)
class _Open:
    """A window that is not closed, and the subscriptions whose end it waits for."""

    window: Window
    waits: set[str] = field(default_factory=set)


class Ends:
    """Closes windows; fed by observers and by the devices. It touches no network. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._present: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._places: dict[str, tuple[str, str]] = {}
        self._open: defaultdict[tuple[str, str], list[_Open]] = defaultdict(list)
        self._dead: set[str] = set()
        self._kept: defaultdict[str, list[Window]] = defaultdict(list)
        self.hiding: set[str] = set()
        """Brokers where somebody listens to everything: they report no absence, so a window is open until the device
        gets something on its next connection."""
        self.forgot: Callable[[list[Window], float], None] = lambda *_: None
        """Told of the windows of a broker that died: what it kept for absent devices is gone."""

    def begun(self, broker: str, device: str, consumer: str) -> None:
        with self._lock:
            self._present[device, broker].add(consumer)
            self._places[consumer] = (device, broker)

    def ended(self, consumer: str, at: float) -> None:
        """The broker saw the end of a subscription."""
        with self._lock:
            place = self._places.pop(consumer, None)
            if place is None:
                return
            self._present[place].discard(consumer)
            left = []
            for one in self._open.pop(place, []):
                one.waits.discard(consumer)
                if one.waits:
                    left.append(one)
                else:
                    one.window.close(at)
            if left:
                self._open[place] = left

    def down(self, broker: str, at: float) -> None:
        """The broker is dead: nothing listens there any more, and what waited there for a session is gone."""
        with self._lock:
            self._dead.add(broker)
            for place in [place for place in self._open if place[1] == broker]:
                for one in self._open.pop(place):
                    one.window.close(at)
            self.forgot(self._kept.pop(broker, []), at)
            for place in [place for place in self._present if place[1] == broker]:
                for consumer in self._present.pop(place):
                    self._places.pop(consumer, None)

    def up(self, broker: str) -> None:
        with self._lock:
            self._dead.discard(broker)

    def watch(self, window: Window) -> None:
        """Close this window of a device's connection to a broker when the broker has seen its end."""
        with self._lock:
            place = window.device, window.broker
            waits = set(self._present[place])
            if window.broker in self.hiding:
                waits.add(HIDDEN)
            if window.broker in self._dead:
                window.close(window.since)
                self.forgot([window], window.since)
                return
            self._kept[window.broker].append(window)
            if waits:
                self._open[place].append(_Open(window, waits))
            else:
                window.close(window.since)

    def settled(self, device: str) -> bool:
        """Whether no window of the device is open."""
        with self._lock:
            return not any(place[0] == device for place in self._open)

    def reached(self, device: str, broker: str, at: float) -> None:
        """The device got something on a new connection: from now on the bridge knows where it listens.

        What waited for it at that broker comes now."""
        with self._lock:
            for windows in self._kept.values():
                for window in windows:
                    if window.device == device and window.reached is None:
                        window.reached = at
            self._kept[broker] = [window for window in self._kept[broker] if window.device != device]
            for place in [place for place in self._open if place[0] == device]:
                for one in self._open.pop(place):
                    one.window.close(at)


class Observer:
    """The observer of one broker."""

    def __init__(self, broker: Broker, ends: Ends) -> None:
        self._broker = broker.model_copy(update={"heartbeat": PATIENT})
        self._ends = ends
        self._over = Event()
        self._lost = Event()
        self.watching = Event()
        self._thread = Thread(target=self._run, name=f"observer-{broker.name}", daemon=True)
        self.start = self._thread.start

    def stop(self) -> None:
        self._over.set()
        self._lost.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self._lost.clear()
            link = Link(self._broker, self._take)
            try:
                link.connect()
                self._ends.up(self._broker.name)
                link.subscribe(CONSUMERS, "1", headers={"transformation": "jms-advisory-json"})
                self.watching.set()
                self._lost.wait()
            except LinkError:
                self._over.wait(AGAIN)
            finally:
                link.drop("the observer is done")

    def _take(self, batch: list[Frame] | LinkLost) -> None:
        at = time.monotonic()
        if isinstance(batch, LinkLost):
            self._ends.down(self._broker.name, at)
            self._lost.set()
            return
        for frame in batch:
            try:
                advisory = parse(frame.body)
            except FrameError:
                continue
            match advisory:
                case Begun(filter):
                    device = device_of(filter.topic)
                    if device:
                        self._ends.begun(self._broker.name, device, filter.consumer)
                case Ended(consumer):
                    self._ends.ended(consumer, at)


def device_of(topic: str) -> str:
    """The device that a subscription names, in JMS form: mqtt.*.mqtt.<device>.sub, sparkcluster.mqtt.<device>.sub."""
    parts = topic.split(".")
    return parts[-2] if len(parts) >= 4 and parts[-1] == "sub" and parts[-3] == "mqtt" else ""
