"""The metrics of `kalinka registry`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.registry.watch import Watch


def samples(watches: Iterable[Watch]) -> Iterator[Sample]:
    """What the watchers of all brokers say."""
    for watch in watches:
        name, term = (watch.broker.name,), watch.term
        yield Sample(catalogue.WRITES, name, watch.written)
        yield Sample(catalogue.ELECTED, name, term is not None)
        yield Sample(catalogue.SETTLED, name, term is not None and term.settled)
        if term is not None:
            true = term.settled and not term.pending
            yield Sample(catalogue.LINK, ("registry", *name), term.linked)
            yield Sample(catalogue.DEVICES, name, len(term.roster))
            yield Sample(catalogue.PENDING, name, term.pending)
            yield Sample(catalogue.RECONCILED, name, term.pulse.reconciled_at)
            yield Sample(catalogue.STALENESS, name, 0.0 if true else time.monotonic() - term.pulse.true_at)
            yield Sample(catalogue.EAVESDROPPERS, name, len(term.roster.eavesdroppers))
