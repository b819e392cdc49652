"""Records are taken and settled by runs: what becomes of each is what would become of it alone."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from downlink import MQTT, SPARK, Bench, record
from hypothesis import given, settings
from hypothesis import strategies as st

from kalinka_jms.sub.parked import parked_key

DEVICES: tuple[str | bytes | None, ...] = ("d1", "d2", "d3", "away", "far", None, b"", b"\xff", "a,b")
HEADERS: tuple[tuple[tuple[str, bytes | None], ...], ...] = (
    (),
    (("kalinka.source", b"s"),),
    (("kalinka.source", b"a/b"),),
    (("kalinka.source", b"\xff"),),
    (("kalinka.hops", b"x"),),
    (("kalinka.hops", b"9"),),
    (("mqtt.qos", b"7"),),
    (("kalinka.id", None), ("theirs", None)),
)
KEYS = [parked_key("d3", f"{MQTT},kafka", str(n)) for n in range(3)]


@st.composite
def logs(draw: st.DrawFn) -> list[Any]:
    """Records of two topics of one partition, with gaps, some of them again; some with an id that others have."""
    made: list[Any] = []
    offsets = {MQTT: 5, SPARK: 5}
    for _ in range(draw(st.integers(1, 25))):
        topic = draw(st.sampled_from((MQTT, MQTT, MQTT, SPARK)))
        offsets[topic] = max(0, offsets[topic] + draw(st.sampled_from((1, 1, 1, 1, 4, -2))))
        id = draw(st.sampled_from((None, None, b"i", b"j")))
        headers = (*draw(st.sampled_from(HEADERS)), *(() if id is None else (("kalinka.id", id),)))
        device, value = draw(st.sampled_from(DEVICES)), draw(st.sampled_from((b"", b"x" * 300, b"y", None)))
        time = draw(st.sampled_from((0, 1, 990_500)))
        made.append(record(offsets[topic], device, value, topic, headers=headers, time=time))
    return made


def bench() -> tuple[Bench, Any]:
    """Devices that are here, away, of another group, and with a backlog; records have 10 seconds."""
    one = Bench(ttl=10, transaction=4)
    one.registry.listen("d1", "b1")
    one.registry.listen("d2", "b2")
    one.registry.listen("far", "far")
    one.registry.listen("d3", "b1")
    one.log["0.parked", 0] = [record(n, key, b"p", "0.parked", time=995_000) for n, key in enumerate(KEYS)]
    share = one.open(parked=[(n, key, 1) for n, key in enumerate(KEYS)], time=995_000)
    one.up("b1", "b2")
    return one, share


def ends(one: Bench, share: Any) -> Any:
    """Everything that was sent, written and counted, after all is settled."""
    said: list[Any] = []
    for turn in range(12):
        for broker, outlet in one.outlets.items():
            while outlet.written:
                said.append((broker, outlet.written[0].sends))
                one.prove(broker, {0} if turn == 0 else ())
        batch = one.commit()
        one.load()
        said.append([(write.topic, write.key, write.value, write.outcome) for _, write in batch.writes])
        said.append([(topic, offset) for _, topic, offset in batch.offsets])
    assert one.balanced()
    return said, one.books.summary(), one.books.taken, share.pending, share.pending_bytes, share.active


@given(logs())
@settings(max_examples=60)
def test_a_run_is_what_its_records_are(log: list[Any]) -> None:
    (alone, one), (together, other) = bench(), bench()
    for message in log:
        alone.streams.take(one, [message], 0.0)
    for _, run in groupby(log, lambda message: message.topic()):
        together.streams.take(other, list(run), 0.0)
    alone.settle()
    together.settle()
    assert ends(alone, one) == ends(together, other)
