"""A bridge with a mistake in it, to see the proof fail: `python -m tests.chaos --sabotage auto-ack --only kill-pub`.

Each is a mistake that bridges, or their libraries, are known to make. What loses messages must be found by the judge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partialmethod

from confluent_kafka import Consumer, TopicPartition
from kalinka_cli.main import main

from kalinka_jms.pub import window
from kalinka_jms.stomp.link import Link
from kalinka_jms.sub.partitions import Partitions
from kalinka_jms.sub.share import Share


def auto_ack() -> None:
    """`pub` lets the broker forget a message as it is handed out, not when Kafka has it."""
    Link.subscribe = partialmethod(_subscribe, Link.subscribe)  # type: ignore[method-assign,assignment]
    window._frame = lambda _: b""  # type: ignore[assignment]


def commit_early() -> None:
    """`sub` commits what it has taken, not what has an outcome."""
    Share.positions = _newest  # type: ignore[method-assign,assignment]


def no_way_back() -> None:
    """A client of Kafka that has lost its partitions takes no part in the group any more, as librdkafka's does now and
    then. No mistake of the bridge's: it has to go on all the same."""
    usual = Partitions._lost

    def lost(partitions: Partitions, consumer: Consumer, lost: list[TopicPartition]) -> None:
        usual(partitions, consumer, lost)
        consumer.unsubscribe()

    Partitions._lost = lost  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    "auto-ack": auto_ack,
    "commit-early": commit_early,
    "no-way-back": no_way_back,
}


def _subscribe(link: Link, usual: Callable[..., None], destination: str, number: str, **options: object) -> None:
    usual(link, destination, number, **{**options, "ack": "auto"})


def _newest(share: Share) -> Iterator[tuple[str, int]]:
    for topic, watermark in share._watermarks.items():
        yield topic, watermark.newest + 1


if __name__ == "__main__":
    SABOTAGES[sys.argv.pop(1)]()
    main()
