"""The metrics of `kalinka pub`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from kalinka_jms.config import Settings
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.buckets import EMPTY, Histogram
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.pub.account import CONFIRMED, DEAD, REFUSED, Statement

OUTCOMES = (CONFIRMED, DEAD, REFUSED)


def samples(brokers: Iterable[tuple[str, bool, Statement]], settings: Settings) -> Iterator[Sample]:
    """What is said of each broker: its name, whether its link is up, and the last statement of its account."""
    now, difference = time.time(), 0
    routes = [route.from_ for route in settings.routes.up]
    for broker, up, statement in brokers:
        yield Sample(catalogue.LINK, ("pub", broker), up)
        yield from _broker(broker, statement, routes)
        flight = statement.flight
        late = 0.0 if flight.oldest is None else max(now - flight.oldest / 1000, 0.0)
        yield Sample(catalogue.UP_LAG, (broker,), late)
        for queue in settings.pub.queues:
            yield Sample(catalogue.UP_ACTIVE, (broker, queue), queue in flight.active)
        settled = sum(histogram.count for _, _, histogram in statement.outcomes)
        difference += abs(statement.received - settled - statement.given_back - flight.messages)
    yield Sample(catalogue.DIFFERENCE, ("up",), difference)


def _broker(broker: str, statement: Statement, routes: Sequence[str]) -> Iterator[Sample]:
    found: dict[tuple[str, str], Histogram] = {(route, CONFIRMED): EMPTY for route in routes}
    found |= {("", outcome): EMPTY for outcome in (DEAD, REFUSED)}
    found |= {(route, outcome): histogram for route, outcome, histogram in statement.outcomes}
    yield Sample(catalogue.RECEIVED, (broker,), statement.received)
    for (route, outcome), histogram in found.items():
        yield Sample(catalogue.UP, (broker, route, outcome), histogram.count)
        if outcome == CONFIRMED:
            yield Sample(catalogue.UP_SECONDS, (broker, route), histogram)
    yield Sample(catalogue.UP_GIVEN_BACK, (broker,), statement.given_back)
    yield Sample(catalogue.UP_IN_FLIGHT, (broker,), statement.flight.messages)
    yield Sample(catalogue.UP_BYTES, (broker,), statement.flight.bytes)
