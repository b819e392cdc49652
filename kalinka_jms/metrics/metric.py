"""What a metric is, and one value of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kalinka_jms.metrics.buckets import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Of = Literal["every", "pub", "sub", "registry"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family, as it is scraped. `of`: the service that has it."""

    name: str
    kind: Kind
    of: Of
    labels: tuple[str, ...]
    meaning: str


class Sample(NamedTuple):
    """One value of a metric; `labels` are in its order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram
