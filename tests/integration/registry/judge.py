"""Holds what devices really did against everything that was ever written about them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from history import Change, History

from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.znodes import Znodes, unescape

TOLERANCE = 0.01
"""Seconds: times are read just before and just after what they stand for, and ZooKeeper's are whole milliseconds."""


@dataclass(slots=True)
class Stay:
    """A device listens on a broker, over one connection. Times are seconds since the epoch."""

    device: str
    broker: str
    mark: str
    """A filter (JMS form) that only this connection has; the last one that it subscribes to."""
    begin: float
    """Just before it connects."""
    came: float = math.inf
    """When the broker had confirmed its subscriptions."""
    left: float = math.inf
    """Just before it ends; what a broker finds out later (half-open connections) is no stay any more."""


@dataclass(slots=True)
class Verdict:
    """What was found for some devices."""

    settled: list[float] = field(default_factory=list)
    """Seconds from the SUBACK, or from the end of a newer connection, until the entry was right."""
    unsettled: int = 0
    """Times that the device had moved on before that."""
    away: list[str] = field(default_factory=list)
    """Every entry that pointed away from a device: to a broker where it was not any more, or nowhere, after it had been
    right about the connection that the device kept."""
    late: list[float] = field(default_factory=list)
    """Seconds that another broker was preferred because its word of an earlier connection came later than that of the
    connection which the device kept. Brokers know nothing of each other, and what they say has no common order."""

    def __str__(self) -> str:
        times = sorted(self.settled) or [math.nan]
        return (
            f"right {len(self.settled)} times: median {times[len(times) // 2]:.3f} s, at most {times[-1]:.3f} s; "
            f"{self.unsettled} times the device moved on before; "
            f"late words {len(self.late)}, at most {max(self.late, default=0.0):.3f} s"
        )


def judge(history: History, root: str, stays: Iterable[Stay]) -> Verdict:
    """Look at the whole history. A device counts where it came last, of the places where it still is."""
    by_device: dict[str, list[Stay]] = {}
    for stay in stays:
        by_device.setdefault(stay.device, []).append(stay)
    verdict = Verdict()
    states = _states(history, root)
    for device, own in by_device.items():
        _judge(states.get(device, []), own, verdict)
    return verdict


def _states(history: History, root: str) -> dict[str, list[tuple[float, Entry]]]:
    states: dict[str, list[tuple[float, Entry]]] = {}
    for change in history.changes(root):
        states.setdefault(unescape(change.path.rpartition("/")[2]), []).append((change.at, _entry(change)))
    return states


def _entry(change: Change) -> Entry:
    return Entry.decode(change.data) if change.data else Entry()


def _judge(states: Sequence[tuple[float, Entry]], stays: Sequence[Stay], verdict: Verdict) -> None:
    edges = sorted({stay.begin for stay in stays} | {stay.left for stay in stays} | {math.inf})
    before: Stay | None = None
    for begin, end in itertools.pairwise(edges):
        there = [stay for stay in stays if stay.begin <= begin < stay.left]
        expected = max(there, key=lambda stay: stay.begin, default=None)
        if expected is not None and expected is not before:
            _interval(states, expected, begin, end, verdict)
        before = expected


def _interval(states: Sequence[tuple[float, Entry]], stay: Stay, begin: float, end: float, verdict: Verdict) -> None:
    """From `begin` to `end` the device is to be found at `stay`: once it is, it must not be lost."""
    since = max(begin, stay.came) if begin == stay.begin else begin  # it comes, or what was newer has ended
    ready, wrong, known = math.nan, math.nan, frozenset[tuple[str, int]]()
    for at, entry in [(begin, _at(states, begin)), *((at, e) for at, e in states if begin < at < end - TOLERANCE)]:
        if _points_to(entry, stay):
            verdict.late += [] if math.isnan(wrong) else [at - wrong]
            ready, wrong = at if math.isnan(ready) else ready, math.nan
            known = known.union(*(part.connections for part in entry.parts))
        elif not math.isnan(ready):
            wrong = at if math.isnan(wrong) else wrong
            if not entry or entry.parts[0].connections <= known:
                verdict.away.append(f"{stay.device}: {at - ready:.3f} s after it was right: {stay} {entry}")
    if math.isnan(ready):
        verdict.unsettled += 1
    else:
        verdict.settled.append(max(0.0, ready - since))
    verdict.late += [] if math.isnan(wrong) else [min(end, states[-1][0]) - wrong]


def _at(states: Sequence[tuple[float, Entry]], time: float) -> Entry:
    return next((entry for at, entry in reversed(states) if at <= time), Entry())


def _points_to(entry: Entry, stay: Stay) -> bool:
    newest = next(iter(entry.parts), None)
    return newest is not None and newest.broker == stay.broker and stay.mark in (f.topic for f in newest.filters)


def only_the_elected_wrote(history: History, root: str, brokers: Sequence[str]) -> int:
    """Every change of an entry was made by the session at the head of that broker's election, at that moment; how many
    there were. One transaction changes one broker's part."""
    queues: dict[str, dict[str, int]] = {Znodes(root).election(broker): {} for broker in brokers}
    entries: dict[str, Entry] = {}
    count = 0
    for change in history.changes(root.rpartition("/")[0]):
        parent, _, name = change.path.rpartition("/")
        if parent in queues:
            _queue(queues[parent], name, change)
        elif change.path.startswith(f"{root}/") and parent != root:
            before, after = entries.get(change.path, Entry()), _entry(change)
            entries[change.path] = after
            changed = {part.broker for part in {*before.parts} ^ {*after.parts}}
            if not changed:
                continue
            assert len(changed) == 1, f"{changed} in one transaction: {change}"
            queue = queues[Znodes(root).election(*changed)]
            head = min(queue, key=lambda name: name[-10:], default="")
            assert queue.get(head) == change.session, f"not the elected one: {change}, {queue}"
            count += 1
    return count


def _queue(queue: dict[str, int], name: str, change: Change) -> None:
    if change.data is None:
        queue.pop(name, None)
    else:
        queue[name] = change.session
