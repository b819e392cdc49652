"""Samples as Prometheus has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from kalinka_jms.metrics.buckets import BOUNDS, Histogram
from kalinka_jms.metrics.catalogue import CATALOGUE
from kalinka_jms.metrics.metric import Metric, Sample

_FAMILIES: dict[str, Callable[..., Family]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_EDGES = (*(format(bound, "g") for bound in BOUNDS), "+Inf")


class Samples(Collector):
    """What the sources say, asked once a scrape: all samples of a source are of one moment."""

    def __init__(self, *sources: Callable[[], Iterable[Sample]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        """Every metric of which there is a sample, in the order of the catalogue."""
        found: dict[Metric, list[Sample]] = {}
        for source in self._sources:
            for sample in source():
                found.setdefault(sample.metric, []).append(sample)
        return (_family(metric, found[metric]) for metric in CATALOGUE if metric in found)

    def describe(self) -> Iterable[Family]:
        """Nothing: registering must not ask the sources."""
        return ()


def own_process(registry: CollectorRegistry) -> None:
    """Add what the library knows of the process: CPU, memory, open files, garbage collection."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    family = _FAMILIES[metric.kind](metric.name, metric.meaning, labels=metric.labels)
    for _, labels, value in samples:
        if isinstance(value, Histogram):
            family.add_metric(labels, _cumulative(value), value.total)  # type: ignore[attr-defined]
        else:
            family.add_metric(labels, value)  # type: ignore[attr-defined]
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    buckets, reached = [], 0
    for edge, count in zip(_EDGES, histogram.counts, strict=True):
        reached += count
        buckets.append((edge, float(reached)))
    return buckets
