"""Traffic: every device speaks to the others and to the back end, and the back end to every device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Lock, Thread

from kalinka_jms.errors import LabError
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.device import BACK_END, Device, MqttBroker
from kalinka_jms.lab.ledger import Ledger
from kalinka_jms.lab.waiting import wait_until


class Traffic:
    """All streams between `devices` and `back_end` (which may be missing), in rounds of one message a stream.

    A source speaks only while it listens itself; sources and destinations can be held back one by one.
    """

    def __init__(self, ledger: Ledger, devices: Sequence[Device], back_end: BackEnd | None, *, size: int = 0) -> None:
        self._ledger = ledger
        self._devices = tuple(devices)
        self._back_end = back_end
        self._size = size
        self._lock = Lock()
        self._held_sources: set[str] = set()
        self._held_destinations: set[str] = set()
        self._over = Event()
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def burst(self, rounds: int) -> None:
        """Send `rounds` messages on every stream as fast as they go, and wait until all are acknowledged."""
        for _ in range(rounds):
            self._round()
        self.flush()

    def start(self, rate: float) -> None:
        """Begin to send `rate` rounds a second, from a thread of its own."""
        self._over.clear()
        self._thread = Thread(target=self._run, args=(1 / rate,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End what `start` began. Raises LabError when it had broken off."""
        self.halt()
        self.check()

    def halt(self) -> None:
        """End what `start` began, however it went."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise LabError when the sending thread has died."""
        if self._failure is not None:
            raise LabError(f"the traffic broke off: {self._failure}") from self._failure

    def flush(self) -> None:
        """Wait until the brokers and Kafka have acknowledged everything."""
        for device in self._devices:
            device.flush()
        if self._back_end is not None:
            self._back_end.flush()

    def hold(self, *, source: str | None = None, destination: str | None = None) -> None:
        """From now on nothing is sent by `source`, or to `destination`."""
        with self._lock:
            self._held_sources.update([source] if source else [])
            self._held_destinations.update([destination] if destination else [])

    def release(self, *, source: str | None = None, destination: str | None = None) -> None:
        """Undo `hold`."""
        with self._lock:
            self._held_sources.discard(source or "")
            self._held_destinations.discard(destination or "")

    def move(self, device: Device, broker: MqttBroker, *, backlog: int, timeout: float = 60.0) -> None:
        """Move `device` to `broker` while the others go on; at least `backlog` messages are sent to it meanwhile.

        It leaves between two messages, never in the midst of one: what the broker is writing to a device as the
        device goes is what MQTT cannot promise to a clean session (see the table of guarantees), so no message is
        under way to it at that moment. Those sent while it is away are for the bridge to keep.
        """
        self.hold(source=device.name, destination=device.name)
        self._settle(lambda: not self._ledger.outstanding(device.name), timeout, f"{device.name} has not caught up")
        device.leave()
        self.release(destination=device.name)
        self._settle(lambda: self._ledger.missing(device.name) >= backlog, timeout, f"too little sent to {device.name}")
        device.join(broker)
        self.release(source=device.name)

    def _settle(self, condition: Callable[[], bool], timeout: float, complaint: str) -> None:
        settled = wait_until(lambda: condition() or self._failure, timeout)
        self.check()
        if not settled:
            raise LabError(f"{complaint} after {timeout} s")

    def _run(self, interval: float) -> None:
        due = time.monotonic()
        try:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                self._round()
                due += interval
        except Exception as error:
            self._failure = error

    def _round(self) -> None:
        with self._lock:
            for send, destination in self._streams():
                send(destination, self._size)

    # A device whose link breaks within a round is left out of it: nobody waits for it.
    def _streams(self) -> Iterator[tuple[Callable[[str, int], object], str]]:
        names = [device.name for device in self._devices]
        for device in self._devices:
            if device.listening and device.name not in self._held_sources:
                yield from ((device.offer, name) for name in [*names, BACK_END] if self._open(device.name, name))
        if self._back_end is not None:
            yield from ((self._back_end.send, name) for name in names if self._open(BACK_END, name))

    def _open(self, source: str, destination: str) -> bool:
        to_nobody = destination == BACK_END and self._back_end is None
        return source != destination and destination not in self._held_destinations and not to_nobody
