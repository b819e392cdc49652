"""The downlink with routes that are final by the device's own evidence, against devices with sessions of both kinds.

As `test_streams_model`, whose machine this is; here a persistent device has a record when it acknowledged it, and what
brokers say of single messages comes late, with that of others among it, or not at all because the link broke.
"""

from __future__ import annotations

from collections import defaultdict, deque

from downlink import GROUPS, MQTT
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from test_streams_model import DEVICES, SERVED, Model

from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Part
from kalinka_jms.sub.outlet import Proofs
from kalinka_jms.sub.sends import Consumed, Dispatched, Evidence, Expired, Word

PERSISTENT = DEVICES[1]
"""The device with persistent sessions; the other one's are clean."""

STORM = (
    *("fetch", "pump", "read", "hear", "acknowledge", "commit") * 2,
    *("subscribe", "leave", "register", "load", "wait", "lose", "expire"),
)


class DeviceModel(Model):
    """`queues` is what durable subscriptions hold, `stream` what a broker says and nobody has heard yet."""

    DOWN = (
        {"from": "{group}.mqtt.mqtt", "to": "mqtt/{source}/mqtt/{device}/sub", "delivery": "device"},
        {"from": "{group}.sparkcluster.mqtt", "to": "sparkcluster/mqtt/{device}/sub", "delivery": "device"},
    )

    def __init__(self) -> None:
        self.connections: dict[tuple[str, str], str] = {}
        """Device and broker where it is connected → the connection."""
        self.queues: defaultdict[str, deque[tuple[str, int, str, bytes]]] = defaultdict(deque)
        """Broker where the persistent device has a session → link, message number, destination and payload."""
        self.stream: dict[str, list[tuple[str, list[Evidence]]]] = {broker: [] for broker in SERVED}
        super().__init__()

    @rule(device=st.sampled_from(DEVICES), broker=st.sampled_from(sorted(GROUPS)), known=st.booleans())
    def subscribe(self, device: str, broker: str, known: bool) -> None:
        if (device, broker) not in self.present:
            self.present.add((device, broker))
            self.connections[device, broker] = f"ID:{broker}-4:{next(self.numbers)}:-1"
            if device == PERSISTENT:
                for identity, number, destination, _ in self.queues[broker]:
                    self._say(broker, identity, Dispatched(number, self._consumer(device, broker, destination)))
        if known:
            self.register(device)

    @rule(device=st.sampled_from(DEVICES), broker=st.sampled_from(sorted(GROUPS)), known=st.booleans())
    def leave(self, device: str, broker: str, known: bool) -> None:
        self.present.discard((device, broker))
        self.connections.pop((device, broker), None)
        if known:
            self.register(device)

    @rule(device=st.sampled_from(DEVICES))
    def register(self, device: str) -> None:
        entry = self.bench.registry.entries.get(device)
        for broker, group in GROUPS.items():
            part = entry.part(broker) if entry else None
            connection = self.connections.get((device, broker))
            if connection is None and part is not None:
                self.bench.registry.leave(device, broker)
            elif connection is not None and (part is None or not part.filters[0].consumer.startswith(f"{connection}:")):
                self.bench.registry.apply(device, broker, Part(broker, _filters(device, connection)), live=True)
                self.groups[device].add(group)

    @rule(broker=st.sampled_from(SERVED), gone_after=st.integers(0, 4), hidden=st.booleans(), heard=st.booleans())
    def read(self, broker: str, gone_after: int, hidden: bool, heard: bool) -> None:
        """Hidden: somebody with a durable subscription listens to everything, or the time of what waits runs out."""
        if not self.lines[broker]:
            return
        transaction = self.lines[broker].pop(0)
        absent: list[int] = []
        words: list[Evidence] = []
        for index, (destination, payload) in enumerate(transaction.sends):
            device, number = destination.split(".")[-2], transaction.first + index
            if index == gone_after:
                self.leave(device, broker, known=hidden)
            if hidden:
                words += [Dispatched(number, "ID:other:-1:1"), Consumed(number)] if device != PERSISTENT else []
            if (device, broker) in self.present:
                words.append(Dispatched(number, self._consumer(device, broker, destination)))
            if device == PERSISTENT:
                self.queues[broker].append((transaction.identity, number, destination, payload))
            elif (device, broker) in self.present:
                self.received[device].append(payload)
            else:
                absent.append(index)
        echo = transaction.evidence([] if hidden else absent, transaction.places if hidden else ())
        self.stream[broker].append((transaction.identity, [*words, *echo] if gone_after % 2 else [*echo, *words]))
        if hidden and gone_after < 2:
            self.run_out(broker)
        if heard:
            self.acknowledge(broker, gone_after)
            self.hear(broker, 99)

    @rule(broker=st.sampled_from(SERVED), count=st.integers(1, 5))
    def hear(self, broker: str, count: int) -> None:
        for identity, evidence in self._pop(self.stream[broker], count):
            self.streams.event(Proofs(broker, identity, evidence), self.bench.shares, self.bench.now)
        self._written()

    @rule(broker=st.sampled_from(SERVED), count=st.integers(1, 5))
    def acknowledge(self, broker: str, count: int) -> None:
        """The persistent device has the next messages."""
        if (PERSISTENT, broker) in self.present:
            for _ in range(min(count, len(self.queues[broker]))):
                identity, number, _, payload = self.queues[broker].popleft()
                self.received[PERSISTENT].append(payload)
                self._say(broker, identity, Consumed(number))

    @rule(broker=st.sampled_from(SERVED))
    def run_out(self, broker: str) -> None:
        """The time of all that waits for the persistent device runs out."""
        while self.queues[broker]:
            identity, number, *_ = self.queues[broker].popleft()
            self._say(broker, identity, Expired(number), Consumed(number))

    @rule(
        steps=st.lists(st.tuples(st.sampled_from(STORM), st.integers(0, 4), st.booleans(), st.booleans()), max_size=60)
    )
    def storm(self, steps: list[tuple[str, int, bool, bool]]) -> None:
        """Much at once: records for both devices, and what may befall them, close together."""
        for device in DEVICES:
            self.produce(device, MQTT, b"s", [0, 1, 2, 3])
            self.subscribe(device, "b1", known=True)
        for step, count, this, other in steps:
            broker, device = SERVED[this], DEVICES[other]
            match step:
                case "fetch":
                    self.fetch(0, MQTT, 4)
                case "pump":
                    self.tell()
                    self.pump()
                case "read":
                    self.read(broker, count, hidden=this, heard=other)
                case "subscribe" | "leave":
                    getattr(self, step)(device, broker, known=count > 1)
                case "register":
                    self.register(device)
                case "hear" | "acknowledge":
                    getattr(self, step)(broker, count)
                case "commit":
                    self.submit()
                    self.answer(True)
                case "load":
                    self.load(9)
                case "wait":
                    self.wait((0.3, 3.0, 11.0)[count % 3])
                case "lose":
                    self.link_down(broker, late=other)
                    self.link_up(broker)
                case _:
                    self.run_out(broker)

    # --- inside

    def _say(self, broker: str, identity: str, *words: Word) -> None:
        if broker in self.stream:
            self.stream[broker].append((identity, [*words]))

    def _consumer(self, device: str, broker: str, destination: str) -> str:
        return f"{self.connections[device, broker]}:{1 if destination.startswith('mqtt') else 2}"

    def _turn(self) -> None:
        super()._turn()
        for broker in SERVED:
            self.acknowledge(broker, 1000)
            self.hear(broker, 1000)


def _filters(device: str, connection: str) -> tuple[Filter, ...]:
    topics = (f"mqtt.*.mqtt.{device}.sub", f"sparkcluster.mqtt.{device}.sub")
    name = "AT_LEAST_ONCE:" if device == PERSISTENT else None
    return tuple(Filter(topic, f"{connection}:{number}", name) for number, topic in enumerate(topics, 1))


TestDevices = DeviceModel.TestCase
TestDevices.settings = hypothesis_settings(max_examples=60, stateful_step_count=25, deadline=None)
