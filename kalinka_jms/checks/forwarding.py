"""Does what devices publish get into the queues that `kalinka pub` reads?

Messages are sent that expired long ago. The broker forwards them as any other, finds in the queue that their time is
over, and says so in an advisory that names the queue: no consumer, and so no running `kalinka pub`, ever gets one, and
none stays anywhere (tried on 6.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kalinka_jms.checks import sample
from kalinka_jms.checks.absence import WHOLE
from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.checks.probe import Probe
from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.names import PROBE

LONG_AGO = "1"
"""Milliseconds since 1970."""


def look(broker: Broker, routes: Sequence[str], queues: Sequence[str]) -> Iterator[Finding]:
    """Try each route on a link of its own: the broker ends one on which something is sent that is not allowed.

    Raises LinkError where the link cannot be made.
    """
    topics = sample.table(routes, broker.group, PROBE, PROBE)
    with Probe(broker, ["Expired.Queue.>", *(f"Expired.Topic.{name}" for name in topics)]) as probe:
        try:
            ids = {probe.send(name, [("expires", LONG_AGO)]): route for name, route in topics.items()}
            frames = probe.answers()
        except LinkLost as error:
            yield _not_tried(broker, str(error))
            return
    places: dict[str, set[str]] = {route: set() for route in topics.values()}
    for frame in frames:
        route = ids.get(frame.header("orignalMessageId") or "")
        if route is not None:
            places[route].add((frame.header("destination") or "").partition(".Expired.")[2])
    for route, found in places.items():
        yield from _judged(broker, route, found, queues)


def _judged(broker: Broker, route: str, places: set[str], queues: Sequence[str]) -> Iterator[Finding]:
    into = sorted(place.removeprefix("Queue.") for place in places if place.startswith("Queue."))
    read = [name for name in into if name in queues]
    if not into:
        yield Finding(
            broker.name,
            Kind.FINDING,
            f'what devices publish to "{route}" goes into no queue: it is lost',
            f'add <compositeTopic name="{sample.wildcard(route, broker.group)}" forwardOnly="true"><forwardTo>'
            f'<queue physicalName="{queues[0]}"/></forwardTo></compositeTopic> to its activemq.xml; {WHOLE}',
        )
    elif not read:
        yield Finding(
            broker.name,
            Kind.FINDING,
            f'what devices publish to "{route}" goes into the queue {", ".join(into)}, which nobody reads',
            f'add "{into[0]}" to pub.queues, or forward it into {queues[0]}',
        )
    elif len(read) > 1:
        yield Finding(
            broker.name,
            Kind.FINDING,
            f'what devices publish to "{route}" goes into {len(read)} queues ({", ".join(read)}): each message twice',
            "leave one of the forwards",
        )
    else:
        yield Finding(broker.name, Kind.FINE, f'what devices publish to "{route}" goes into the queue {read[0]}')


def _not_tried(broker: Broker, reason: str) -> Finding:
    text = reason.removeprefix(f"{broker.name}: ")
    remedy = "publish with a device of your own, and look for its record in Kafka"
    return Finding(broker.name, Kind.NOTE, f"whether what devices publish is forwarded was not tried: {text}", remedy)
