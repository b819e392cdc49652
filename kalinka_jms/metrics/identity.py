"""Holds a scrape against the promise: what was taken in = the sum of its outcomes + given back + in flight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.buckets import Histogram
from kalinka_jms.metrics.metric import Metric, Sample

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Law:
    """What must be equal, for each value of the labels `by`."""

    direction: str
    by: tuple[str, ...]
    taken: Metric
    parts: tuple[Metric, ...]


LAWS = (
    Law("up", ("broker",), catalogue.RECEIVED, (catalogue.UP, catalogue.UP_GIVEN_BACK, catalogue.UP_IN_FLIGHT)),
    Law(
        "down",
        ("group", "route"),
        catalogue.TAKEN,
        (catalogue.DOWN, catalogue.DOWN_GIVEN_BACK, catalogue.DOWN_IN_FLIGHT),
    ),
)

Scrape = Mapping[str, list[tuple[Mapping[str, str], float]]]
"""Name of a sample → its labels and values."""


def read(text: str) -> Scrape:
    """The samples of what `/metrics` answered. Raises ValueError where that is no such text."""
    found: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def gathered(samples: Iterable[Sample]) -> Scrape:
    """The same of samples that were not served yet, without the buckets of histograms."""
    found: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for metric, labels, value in samples:
        name = f"{metric.name}_count" if isinstance(value, Histogram) else metric.name
        count = value.count if isinstance(value, Histogram) else float(value)
        found[name].append((dict(zip(metric.labels, labels, strict=True)), count))
    return found


def check(text: str, before: str = "") -> list[str]:
    """What is wrong with one scrape, in words; nothing where every law holds.

    `before`: an earlier scrape of the same process, of which no counter may have become less.
    """
    return faults(read(text), read(before))


def faults(now: Scrape, before: Scrape | None = None) -> list[str]:
    """As `check`."""
    wrong = [fault for law in LAWS for fault in _broken(law, now)]
    wrong += [
        f"{catalogue.DIFFERENCE.name}{dict(labels)} is {value:g}"
        for labels, value in now.get(catalogue.DIFFERENCE.name, ())
        if value
    ]
    return wrong + list(_fallen(before or {}, now))


def total(text: str, metric: Metric, **labels: str) -> float:
    """The sum of a metric's samples that have these labels (a histogram's: its observations)."""
    return summed(read(text), metric, **labels)


def summed(scrape: Scrape, metric: Metric, **labels: str) -> float:
    """As `total`."""
    name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
    samples = scrape.get(name, ())
    return sum(value for found, value in samples if labels.items() <= found.items())


def _broken(law: Law, now: Scrape) -> Iterator[str]:
    taken = _sums(now, law.taken, law.by)
    parts = [_sums(now, part, law.by) for part in law.parts]
    for key in sorted(set(taken).union(*parts)):
        values = [part[key] for part in parts]
        if taken[key] != sum(values) or min(values) < 0:
            named = ", ".join(f"{part.name} {value:g}" for part, value in zip(law.parts, values, strict=True))
            yield f"{law.direction} {'/'.join(key)}: {law.taken.name} {taken[key]:g}, but {named}"


def _fallen(before: Scrape, now: Scrape) -> Iterator[str]:
    counters = [metric.name for metric in catalogue.CATALOGUE if metric.kind == "counter"]
    for name in counters:
        left = {tuple(sorted(labels.items())): value for labels, value in now.get(name, ())}
        for labels, value in before.get(name, ()):
            if left.get(tuple(sorted(labels.items())), 0.0) < value:
                yield f"{name}{dict(labels)} fell from {value:g}"


def _sums(scrape: Scrape, metric: Metric, by: tuple[str, ...]) -> defaultdict[Key, float]:
    sums: defaultdict[Key, float] = defaultdict(float)
    for labels, value in scrape.get(metric.name, ()):
        sums[tuple(labels[name] for name in by)] += value
    return sums
