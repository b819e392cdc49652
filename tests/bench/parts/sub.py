"""Kafka → broker: records wait in Kafka for devices that are all there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kalinka_jms.lab.waiting import wait_until
from tests.bench import names
from tests.bench.devices import Devices
from tests.bench.meter import Run, measure
from tests.bench.parts.pub import CEILINGS, LIBRARIES, WARM_UP
from tests.bench.peers.camel import Camel
from tests.bench.rows import AT_LEAST_ONCE, NONE, Row
from tests.bench.scale import Scale
from tests.bench.stand import STOMP, Stand, alone
from tests.bench.turns import Contender, Figures, by_turns

BARE = "bench.bare"
_WEAKER = "weaker: offsets by time, sends without an answer"
_LONG = 1_800_000
"""Milliseconds that Kafka lets a consumer be silent: it is held while others run."""


def run(stand: Stand, scale: Scale) -> list[Row]:
    """All contenders by turns; the devices stay connected all the time."""
    with ExitStack() as stack:
        stack.enter_context(stand.instances("registry"))
        spread = stack.enter_context(crowd(scale.devices, stand.hosts))
        on_one = stack.enter_context(crowd(scale.devices, stand.hosts[:1], "e"))
        contenders = [*_own(stand, scale, spread, on_one), *_camels(stand, scale, on_one, stack)]
        return by_turns(contenders, scale.runs, stand.sync)


@contextmanager
def crowd(number: int, hosts: tuple[str, ...], prefix: str = "d") -> Iterator[Devices]:
    """Devices, all of them subscribed."""
    devices = Devices(number, hosts, prefix=prefix)
    try:
        assert wait_until(lambda: devices.ready, 300), f"{devices.connected} of {number} devices listen"
        yield devices
    finally:
        devices.stop()


def deliver(stand: Stand, devices: Devices, messages: int, first: int | None = None, size: int = 256) -> Run:
    """`kalinka sub` brings records that wait to all of them, or to the first so many."""
    start = devices.received
    stand.produce(devices.names[:first], messages, size=size)
    with stand.instances("sub") as (sub,):
        run = measure(sub.pid, lambda: devices.received - start, messages)
    _verify(devices.received - start, messages)
    return run


def _verify(came: int, sent: int) -> None:
    assert came == sent, f"{came} messages reached devices, of {sent}"


def _own(stand: Stand, scale: Scale, spread: Devices, on_one: Devices) -> Iterator[Contender]:
    count = scale.messages
    stand.topic(BARE)
    stand.produce(spread.names, count, BARE)

    def bare() -> Figures:
        start = spread.received
        figures = alone(CEILINGS, "deliver", stand.hosts, STOMP, stand.servers, BARE, count).figures
        wait_until(lambda: spread.received - start >= count, 10)
        _verify(spread.received - start, count)
        return figures

    nobody = [f"/topic/sparkcluster.mqtt.nobody{i}.sub" for i in range(scale.devices)]
    every = (
        Contender(names.SUB, AT_LEAST_ONCE, lambda: deliver(stand, spread, count).figures),
        Contender(names.SUB_ONE, AT_LEAST_ONCE, lambda: deliver(stand, on_one, count).figures),
        Contender(names.BARE_DOWN, AT_LEAST_ONCE, bare),
        Contender(names.CONSUMING, NONE, lambda: alone(LIBRARIES, "consume", stand.servers, BARE, count).figures),
        Contender(
            names.STOMP_SENDING, NONE, lambda: alone(LIBRARIES, "send", stand.hosts[0], STOMP, nobody, count).figures
        ),
    )
    yield from (one for one in every if scale.wants(one.name))


class _CamelDown:
    """One Camel with a topic of its own; its devices are all on one broker, as it knows no other."""

    def __init__(self, stand: Stand, devices: Devices, topic: str, messages: int, process: Camel) -> None:
        self._stand = stand
        self._devices = devices
        self._topic = topic
        self._messages = messages
        self._warm = max(WARM_UP, messages)
        self._process = process

    def run(self) -> Run:
        """Records wait in its topic before it goes on; the first time there are enough to make it warm."""
        messages, self._warm = self._warm or self._messages, 0
        self._process.hold()
        start = self._devices.received
        self._stand.produce(self._devices.names, messages, self._topic)
        self._process.go()
        try:
            run = measure(self._process.pid, lambda: self._devices.received - start, messages)
        finally:
            self._process.hold()
        _verify(self._devices.received - start, messages)
        return run


def _camels(stand: Stand, scale: Scale, devices: Devices, stack: ExitStack) -> Iterator[Contender]:
    for consumers in (1, 3):
        name = f"{names.CAMEL}, synchronous, {consumers} consumer{'s' if consumers > 1 else ''}"
        if not scale.wants(name):
            continue
        topic = stand.topic(f"bench.camel.down{consumers}")
        placeholders = {
            "topic": topic,
            "servers": stand.servers,
            # as Kalinka sends; without the second option the first one has no effect
            "jms": "deliveryPersistent=false&explicitQosEnabled=true",
            "kafka": f"groupId={topic}&autoOffsetReset=earliest&consumersCount={consumers}"
            f"&sessionTimeoutMs={_LONG}&maxPollIntervalMs={_LONG}",
        }
        process = Camel("down", f"{stand.hosts[0]}:61616", placeholders, stand.log("camel"))
        stack.enter_context(process)
        camel = _CamelDown(stand, devices, topic, scale.messages, process)
        yield Contender(name, _WEAKER, lambda camel=camel: camel.run().figures)  # type: ignore[misc]
