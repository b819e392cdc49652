"""What a check found: what it means, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How much it matters."""

    FINE = "fine"
    NOTE = "note"
    FINDING = "finding"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `where` is the broker's name, `Kafka` or `ZooKeeper`; no remedy where nothing is to be done."""

    where: str
    kind: Kind
    means: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.means}{'; ' if self.remedy else ''}{self.remedy}"


def worst(findings: Iterable[Finding]) -> Kind:
    """The kind that decides over the exit code."""
    kinds = {finding.kind for finding in findings}
    return next((kind for kind in (Kind.UNREACHABLE, Kind.FINDING) if kind in kinds), Kind.FINE)
