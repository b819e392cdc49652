"""Broker → Kafka: messages wait in a queue of one broker and are drained into Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench import names
from tests.bench.meter import Run, measure
from tests.bench.peers.camel import Camel
from tests.bench.rows import AT_LEAST_ONCE, NONE, Row
from tests.bench.scale import Scale
from tests.bench.stand import QUEUE, STOMP, UP, Stand, alone
from tests.bench.turns import Contender, Figures, by_turns

ALONE = "bench.alone"
CEILINGS, LIBRARIES = "tests.bench.ceilings", "tests.bench.alone"


WARM_UP = 10_000
"""Messages after which the code of a Camel is compiled."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run Camel; `share` of the messages is enough for a slow one."""

    name: str
    guarantee: str
    share: float
    jms: str
    kafka: str


_TRANSACTED = "transacted=true&lazyCreateTransactionManager=false&cacheLevelName=CACHE_CONSUMER"
_ACKNOWLEDGED = "acknowledgementModeName=CLIENT_ACKNOWLEDGE&cacheLevelName=CACHE_CONSUMER"
# without a delay: one message a transaction means that a batch never fills
_AT_ONCE = "lingerMs=0"
MODES = (
    Mode("Camel, transacted, 1 consumer", AT_LEAST_ONCE, 0.1, _TRANSACTED, _AT_ONCE),
    Mode(names.CAMEL_TRANSACTED, AT_LEAST_ONCE, 0.3, f"{_TRANSACTED}&concurrentConsumers=16", _AT_ONCE),
    Mode(
        "Camel, client acknowledge, 16 consumers",
        AT_LEAST_ONCE,
        0.3,
        f"{_ACKNOWLEDGED}&concurrentConsumers=16",
        _AT_ONCE,
    ),
    Mode(names.CAMEL_FASTEST, "weaker: acknowledged before Kafka has it", 1, "asyncConsumer=true", "lingerMs=1"),
)


def run(stand: Stand, scale: Scale) -> list[Row]:
    """All contenders by turns."""
    with ExitStack() as stack:
        contenders = [*_own(stand, scale), *_camels(stand, scale, stack)]
        return by_turns(contenders, scale.runs, stand.sync)


def _own(stand: Stand, scale: Scale) -> Iterator[Contender]:
    stand.topic(ALONE)
    first, count = stand.hosts[0], scale.messages

    def kalinka() -> Figures:
        with drained(stand, scale) as start, stand.instances("pub") as (pub,):
            return measure(pub.pid, lambda: stand.end(UP) - start, count).figures

    def bare() -> Figures:
        with drained(stand, scale):
            return alone(CEILINGS, "drain", first, STOMP, QUEUE, stand.servers, UP, count).figures

    def reading(module: str) -> Figures:
        stand.publish(count, scale.devices)
        return alone(module, "read", first, STOMP, QUEUE, count).figures

    every = (
        Contender(names.PUB, AT_LEAST_ONCE, kalinka),
        Contender(names.BARE_UP, AT_LEAST_ONCE, bare),
        Contender(names.BYTES_READING, NONE, lambda: reading(CEILINGS)),
        Contender(names.STOMP_READING, NONE, lambda: reading(LIBRARIES)),
        Contender(names.PRODUCING, NONE, lambda: alone(LIBRARIES, "produce", stand.servers, ALONE, count).figures),
    )
    yield from (one for one in every if scale.wants(one.name))


@contextmanager
def drained(stand: Stand, scale: Scale, **options: int) -> Iterator[int]:
    """Fill the queue; afterwards exactly so much has come into Kafka. Gives the topic's end before."""
    start = stand.end(UP)
    stand.publish(scale.messages, scale.devices, **options)
    yield start
    came = stand.end(UP) - start
    assert came == scale.messages, f"{came} records of {scale.messages} messages"


def _camels(stand: Stand, scale: Scale, stack: ExitStack) -> Iterator[Contender]:
    for number, mode in enumerate(mode for mode in MODES if scale.wants(mode.name)):
        camel = _CamelUp(stand, mode, number, scale)
        stack.enter_context(camel.process)
        yield Contender(mode.name, mode.guarantee, lambda camel=camel: camel.run().figures)  # type: ignore[misc]


class _CamelUp:
    """One Camel with a queue and a topic of its own, held while others run."""

    def __init__(self, stand: Stand, mode: Mode, number: int, scale: Scale) -> None:
        self._stand = stand
        self._messages = max(500, int(scale.messages * mode.share))
        self._queue = self._topic = f"bench.camel.up{number}"
        stand.topic(self._topic)
        placeholders = {
            "queue": self._queue,
            "topic": self._topic,
            "servers": stand.servers,
            "jms": mode.jms,
            "kafka": mode.kafka,
        }
        self._warm = max(WARM_UP, self._messages)
        self.process = Camel("up", f"{stand.hosts[0]}:61616", placeholders, stand.log("camel"))

    def run(self) -> Run:
        """Messages wait in its queue before it goes on; the first time there are enough to make it warm."""
        messages, self._warm = self._warm or self._messages, 0
        self.process.hold()
        start = self._stand.end(self._topic)
        self._stand.queue(self._queue, messages)
        self.process.go()
        try:
            return measure(self.process.pid, lambda: self._stand.end(self._topic) - start, messages)
        finally:
            self.process.hold()
