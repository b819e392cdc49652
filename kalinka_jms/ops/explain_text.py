"""A way, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kalinka_jms.ops.explain import Down, Landing, Partition, Way

if TYPE_CHECKING:
    from kalinka_jms.ops.live import Live

EVIDENCE = {
    "broker": "the broker took it and had a subscriber for it",
    "device": "the device acknowledged it (clean session or QoS 0: it was written to the device's socket)",
}
"""What `delivered` rests on, by the `delivery` of the route."""

VALUE = {
    "plain": "the payload, byte for byte",
    "reference": '64 bytes of {"srcId": "<source>"}, padded with zeros, then the payload',
}


def as_text(way: Way) -> str:
    """The lines of the way, each part under its own heading."""
    parts = [*_message(way), *_record(way), *_device(way), *_end(way)]
    return "\n".join(parts)


def brief(way: Way) -> str:
    """The way in one line."""
    if way.refusal is not None:
        return f"refused: {way.refusal.reason}"
    if way.message is None and way.down is not None:
        return f"{way.down.topic}  (routes.down[{way.down.route}])"
    if way.record is None or way.up is None:
        return ""
    return f"{way.record.topic}  key {way.record.key}{_at(way.record.partition)}  (routes.up[{way.up.route}])"


def live_text(live: Live, way: Way) -> str:
    """The lines of what the installation says of the way now."""
    return "\n".join(_now(live, way))


def _line(label: str, text: str) -> str:
    return f"  {label:<10} {text}"


def _message(way: Way) -> Iterator[str]:
    if way.message is None:
        return
    yield f"message {way.message}"
    if way.queue is not None:
        yield _line("queue", f"{way.queue.name}, by the {way.queue.kind} {way.queue.pattern}")
    if way.up is not None:
        yield _line("route", f"routes.up[{way.up.route}]: {way.up.template}")
        if way.up.captured:
            yield _line("", ", ".join(f"{name} = {value}" for name, value in way.up.captured.items()))
        if way.up.group is not None:
            yield _line("group", f"{way.up.group}: {way.up.group_rule}")


def _record(way: Way) -> Iterator[str]:
    if way.record is None:
        return
    yield f"record in {way.record.topic}"
    yield _line("key", way.record.key)
    yield _line("partition", _partition(way.record.partition))
    yield _line("value", VALUE[way.record.envelope])
    for name, value in way.record.headers:
        yield _line("header", f"{name} = {value}")


def _partition(partition: Partition) -> str:
    if partition.number is None:
        return f"{partition.rule}; give --partitions to see which"
    return f"{partition.number} of {partition.count}: {partition.rule}"


def _at(partition: Partition) -> str:
    return "" if partition.number is None else f" partition {partition.number}"


def _device(way: Way) -> Iterator[str]:
    if way.down is not None:
        yield from _down(way.down, way.record)
    elif way.record is not None and way.refusal is None:
        yield "no device: no down route reads this topic, it is for consumers of Kafka"


def _down(down: Down, record: Landing | None) -> Iterator[str]:
    number = record.partition.number if record else None
    same = "the same partition" if number is None else f"partition {number}"
    yield f"device {down.device}"
    yield _line("route", f"routes.down[{down.route}]: {down.template}")
    yield _line("broker", f"the one where it listens, for example to {down.listens}: {' or '.join(down.brokers)}")
    yield _line("message", f"{down.topic}, at QoS {down.qos} or what it subscribed to, if that is less")
    yield _line("delivered", f'when {EVIDENCE[down.delivery]} (delivery = "{down.delivery}")')
    yield _line("absent", f"parked in {down.parked}, {same}; replayed in order when it listens again")
    yield _line("unclear", f"where it listens, or its broker is away: parked after {down.ack_timeout:g} s")


def _end(way: Way) -> Iterator[str]:
    if way.refusal is not None:
        yield f"refused: {way.refusal.reason}"
        yield _line("then", way.refusal.then)
    for note in way.notes:
        yield f"note: {note}"


def _now(live: Live, way: Way) -> Iterator[str]:
    yield "now"
    for number, (broker, filters) in enumerate(live.listens):
        yield _line("listens" if number == 0 else "", f"at {broker} to {', '.join(filters)}")
    if not live.listens:
        yield _line("listens", "nowhere")
    parked = way.down.parked if way.down else ""
    if live.waiting is not None:
        since = (time.time() - live.waiting.oldest) / 60
        yield _line("waiting", f"{live.waiting.count} records in {parked}, the oldest for {since:.0f} minutes")
    else:
        yield _line("waiting", f"nothing in {parked}")
    if live.undecided is not None and way.record is not None:
        place = f"{way.record.topic}/{way.record.partition.number}"
        by = f"read by an instance of `kalinka sub` on {live.reader}" if live.reader else "nobody reads it"
        yield _line("undecided", f"{live.undecided} records in {place}, {by}")
    yield _line("so it", f"would be delivered at {live.owner}" if live.owner else "would be parked")
