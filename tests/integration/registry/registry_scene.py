"""A registry of its own on the lab: watchers, devices, and the history of all that was written."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from crowd import Crowd
from history import History
from judge import Stay
from kazoo.exceptions import NoNodeError
from mqtt_listener import Listener

from kalinka_jms.config import Broker, Settings, load
from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.registry import Client, Owners, Unknown, Writer, connect
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.watch import Watch
from kalinka_jms.registry.znodes import Znodes
from tests.mqtt_packets import LASTING

PATIENCE = 60.0
"""Seconds for what takes less than one; other work may have the machine."""

LOOK = 0.5
"""Seconds between two looks at all devices of the registry: looking costs ZooKeeper more than the devices do."""

SESSION = 4.0  # seconds; the shortest that the lab's ZooKeeper grants


class Scene:
    """A registry of its own on the lab: watchers, a reader, and devices. Everything is closed when the stack is."""

    def __init__(self, lab: Lab, directory: Path, stack: ExitStack) -> None:
        self.lab = lab
        self.run = uuid.uuid4().hex[:8]
        self.root = f"/registry-{self.run}/devices"
        self._marks = count()
        self.stays: list[Stay] = []
        """Everything that devices did, by `listen`."""
        zookeeper = next(iter(lab.layout.of("zookeeper")))
        self.history = History(lab.layout.directory(zookeeper) / "data")
        self.config = directory / "kalinka.toml"
        self.config.write_text(self._adapted(lab.config_path.read_text()))
        self.settings: Settings = load(self.config)
        self._stack = stack
        self._logs = directory
        self.client = self._client()
        self.changes: list[tuple[str, tuple[str, ...]]] = []
        self.owners = Owners(self.client, self.root, self._changed)
        stack.callback(self.owners.close)

    def _adapted(self, text: str) -> str:
        root = 'root = "/kalinka/devices"'
        assert root in text
        registry = "\n[registry]\ngrace = 2.0\nresync = 3600.0\n"
        return text.replace(root, f'root = "{self.root}"\nsession_timeout = {SESSION}') + registry

    def _client(self) -> Client:
        client = connect(self.settings.zookeeper)
        self._stack.callback(client.stop)
        return client

    def _changed(self, device: str, entry: Entry | None) -> None:
        self.changes.append((device, entry.brokers if entry else ()))

    def watch(self, *places: int, resync: float = 3600.0) -> list[Watch]:
        """Watchers of these brokers, one each, in a session of their own; settled."""
        client = self._client()
        registry = self.settings.registry.model_copy(update={"resync": resync})
        settings = self.settings.model_copy(update={"registry": registry})
        watches = [Watch(settings.brokers[place], settings, client) for place in places]
        for watch in watches:
            watch.start()
            self._stack.callback(watch.join, 30)
            self._stack.callback(watch.stop)
        assert wait_until(lambda: all(watch.settled for watch in watches), PATIENCE)
        return watches

    def process(self) -> Instances:
        """`kalinka registry` as processes, with this configuration."""
        return self._stack.enter_context(Instances(self.config, self._logs / "logs"))

    def name(self, device: str) -> str:
        return f"{device}-{self.run}"

    def device(self, device: str, place: int, *filters: str, clean: bool = True) -> Listener:
        """A device that listens on a broker, to its own topics of both routes or to these filters."""
        name = self.name(device)
        host = self.lab.layout.of("activemq")[place]
        listener = Listener(host.address, host.ports["mqtt"], name, clean)
        self._stack.callback(quietly(listener.cut))
        listener.subscribe(*(filters or (f"mqtt/+/mqtt/{name}/sub", f"sparkcluster/mqtt/{name}/sub")))
        return listener

    def listen(self, device: str, place: int, *, keep_alive: int = LASTING, clean: bool = True) -> Staying:
        """A device that comes to a broker and listens there; what it does is noted for the judge. On any thread."""
        name, host = self.name(device), self.lab.layout.of("activemq")[place]
        mark = f"mqtt/s{next(self._marks)}/mqtt/{name}/sub"
        stay = Stay(name, host.node, mark.replace("/", "."), begin=time.time())
        self.stays.append(stay)
        listener = Listener(host.address, host.ports["mqtt"], name, clean, keep_alive)
        self._stack.callback(quietly(listener.cut))
        listener.subscribe(f"mqtt/+/mqtt/{name}/sub", f"sparkcluster/mqtt/{name}/sub", mark)
        stay.came = time.time()
        return Staying(stay, listener)

    def crowd(self, place: int, count: int, first: int = 0, wait: bool = True) -> Crowd:
        """Devices that come to a broker and stay, numbered from `first`; all subscribed, unless nobody waits."""
        host = self.lab.layout.of("activemq")[place]
        crowd = Crowd(host.address, host.ports["mqtt"], first, count, self.run)
        self._stack.callback(crowd.stop)
        assert not wait or wait_until(lambda: crowd.ready, PATIENCE)
        return crowd

    def registered(self) -> set[str]:
        """The devices of this scene that have an entry, by their whole names; others may listen on the brokers too."""
        found = Writer(self.client, self.root, "", "", lambda _: None).devices()
        return {name for name in found if name.endswith(f"-{self.run}")}

    def await_registered(self, count: int) -> None:
        """Wait until so many devices have an entry."""
        found = wait_until(lambda: len(self.registered()) == count, PATIENCE * 3, LOOK)
        assert found, f"{len(self.registered())} devices are registered instead of {count}"

    def brokers(self, device: str) -> tuple[str, ...] | None:
        """Where it listens, newest first; None while that is not known."""
        entry = self.owners.get(self.name(device))
        return None if isinstance(entry, Unknown) else entry.brokers if entry else ()

    def await_brokers(self, device: str, *brokers: str) -> None:
        found = wait_until(lambda: self.brokers(device) == brokers, PATIENCE)
        assert found, f"{device}: {self.brokers(device)} instead of {brokers}"

    def entry(self, device: str) -> Entry:
        entry = self.owners.get(self.name(device))
        assert isinstance(entry, Entry)
        return entry

    def stored(self, device: str) -> Entry:
        """The entry as it stands in ZooKeeper, whatever counts."""
        path = Znodes(self.root).device(self.name(device))
        (found,) = self.client.gather([lambda kazoo: kazoo.get_async(path)], tolerated=NoNodeError)
        return Entry.decode(found[0]) if found else Entry()

    def broker(self, place: int) -> Broker:
        return self.settings.brokers[place]


class Staying:
    """A device that listens, until it leaves."""

    def __init__(self, stay: Stay, listener: Listener) -> None:
        self.stay = stay
        self.listener = listener

    def disconnect(self) -> None:
        self.stay.left = time.time()
        self.listener.disconnect()

    def cut(self) -> None:
        """Close the socket without a word."""
        self.stay.left = time.time()
        self.listener.cut()

    def taken_over(self) -> None:
        """Another connection with the same client id is about to be made to the same broker, which ends this one."""
        self.stay.left = time.time()


def quietly(action: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with contextlib.suppress(OSError):
            action()

    return run
