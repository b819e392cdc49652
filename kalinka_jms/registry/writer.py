"""What one elected watcher writes to the registry: its broker's parts, and nothing once it is no longer elected."""

from __future__ import annotations

import json
import logging
import posixpath
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.entry import Entry, Part
from kalinka_jms.registry.znodes import Znodes, unescape
from kalinka_jms.registry.zookeeper import Ensemble, unknown

log = logging.getLogger("kalinka.registry")

_EMPTY = (Entry(), -1)  # -1: there is no znode
_SPARED = (RolledBackError, RuntimeInconsistency)  # what the steps before and after the one that failed answer


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be written for a device."""

    part: Part | None
    live: bool


@dataclass(slots=True)
class _Job:
    """One device that is being written. At most one request of it is under way."""

    device: str
    wish: _Wish
    path: str
    guard: int | None = None
    """The version of the shard before the entry was read; None where nobody asked."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One transaction: what the znode is to hold, and the version it was read with (-1: there is none)."""

    job: _Job
    wish: _Wish
    entry: Entry
    version: int


class Writer:
    """Brings one broker's parts into the registry by compare-and-set.

    A znode that is deleted and made anew has version 0 again: what was read of the old one would pass for the new one,
    and bring the other brokers' old parts back. So every deletion raises the version of the shard, and who writes what
    it has read (not what it wrote itself: with a part of ours in it nobody else deletes it) checks that as well.

    Every write is one transaction with a check that the election still stands (`fence`, its znode): a watcher that was
    stopped and wakes up writes nothing. Devices are written side by side, one device in order; of several wishes for a
    device that wait, the last counts. When nothing can be written any more `on_failure` is called, once, from kazoo's
    thread, and `failure` says why.
    """

    def __init__(
        self, client: Ensemble, root: str, broker: str, fence: str, on_failure: Callable[[RegistryError], None]
    ) -> None:
        self._client = client
        self._znodes = Znodes(root)
        self._broker = broker
        self._fence = fence
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._known: dict[str, tuple[Entry, int]] = {}  # device → entry with a part of ours, version of its znode
        self.failure: RegistryError | None = None
        self.written = 0
        """Transactions that were carried out."""

    @property
    def pending(self) -> int:
        """Devices that are not written yet."""
        return len(self._jobs)

    def prepare(self) -> None:
        """Make the parents of everything that is written. Raises RegistryError, also when the election is lost already:
        who has nothing to write would not notice."""
        root, state = self._znodes.root, self._znodes.broker(self._broker)
        self._client.gather([lambda kazoo: kazoo.ensure_path_async(root), lambda kazoo: kazoo.ensure_path_async(state)])
        (there,) = self._client.gather([lambda kazoo: kazoo.get_children_async(root)])
        missing = [shard for shard in self._znodes.shards if shard.rpartition("/")[2] not in there]
        self._client.gather([partial(_create, path) for path in missing], tolerated=NodeExistsError)
        (elected,) = self._client.gather([lambda kazoo: kazoo.get_async(self._fence)], tolerated=NoNodeError)
        if elected is None:
            raise RegistryError(f"no longer the watcher of {self._broker}")

    def apply(self, device: str, part: Part | None, live: bool) -> None:
        """Make this what the registry says of the device on this broker. Never blocks, tells nothing back.

        `live`: the device came to this broker just now (see `Entry.merged`); such wishes go before the others.
        """
        with self._changed:
            if self.failure is not None:
                return
            job = self._jobs.get(device)
            if job is not None:
                # what waits or is under way may not have happened yet: that it was live must not be forgotten
                job.wish = _Wish(part, live or (job.wish.live and job.wish.part is not None))
                return
            job = self._jobs[device] = _Job(device, _Wish(part, live), self._znodes.device(device))
        self._step(job, urgent=live)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until everything is written; whether it is. Raises RegistryError."""
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs or self.failure, timeout)
            if self.failure is not None:
                raise self.failure
            return not self._jobs

    def close(self) -> None:
        """Write nothing more; what waits is forgotten."""
        self._fail(RegistryError("the watcher's time is over"), quiet=True)

    def devices(self) -> set[str]:
        """Every device in the registry, of all brokers. Raises RegistryError."""
        lists = self._client.gather([partial(_children, path) for path in self._znodes.shards], tolerated=NoNodeError)
        return {unescape(name) for names in lists for name in names or ()}

    def state(self) -> dict[str, Any]:
        """The broker's state as a watcher last wrote it; empty if none did. Raises RegistryError."""
        path = self._znodes.broker(self._broker)
        ((data, _),) = self._client.gather([lambda kazoo: kazoo.get_async(path)])
        try:
            state = json.loads(data or b"{}")
        except ValueError:
            return {}
        return state if isinstance(state, dict) else {}

    def declare(self, state: Mapping[str, Any]) -> None:
        """Write the broker's state, under the same check. Raises RegistryError."""
        path, data = self._znodes.broker(self._broker), json.dumps(state).encode()

        def request(kazoo: Any) -> Any:
            transaction = self._transaction(kazoo)
            transaction.set_data(path, data)
            return transaction.commit_async()

        (results,) = self._client.gather([request])
        if any(isinstance(result, Exception) for result in results):
            raise RegistryError(f"the state of {self._broker} cannot be written any more: {results!r}")

    def _step(self, job: _Job, urgent: bool = False) -> None:
        known = self._known.get(job.device)
        if known is None:
            self._client.ask(lambda kazoo: kazoo.get_async(job.path), partial(self._got, job), urgent)
        else:
            self._write(job, *known, urgent=urgent)

    def _got(self, job: _Job, value: Any, error: KazooException | None) -> None:
        if error is None:
            self._write(job, _decode(value[0], job.path), value[1].version)
        elif isinstance(error, NoNodeError):
            self._write(job, *_EMPTY)
        else:
            self._stumble(job, error)

    def _write(self, job: _Job, entry: Entry, version: int, urgent: bool = True) -> None:
        wish = job.wish
        merged = entry.merged(self._broker, wish.part, wish.live)
        if merged == entry:
            self._finish(job, wish, entry, version)
        elif version >= 0 and job.guard is None and job.device not in self._known:
            shard = posixpath.dirname(job.path)
            self._client.ask(lambda kazoo: kazoo.exists_async(shard), partial(self._guarded, job), urgent)
        else:
            attempt = _Attempt(job, wish, merged, version)
            self._client.ask(partial(self._request, attempt, job.guard), partial(self._wrote, attempt), urgent)

    def _guarded(self, job: _Job, stat: Any, error: KazooException | None) -> None:
        """Now the entry is read once more, after the version of its shard."""
        if error is not None:
            self._stumble(job, error)
            return
        job.guard = None if stat is None else stat.version
        self._step(job, urgent=True)

    def _request(self, attempt: _Attempt, guard: int | None, kazoo: Any) -> Any:
        """The attempt as a transaction. Its last step is the one on the entry."""
        path, version, shard = attempt.job.path, attempt.version, posixpath.dirname(attempt.job.path)
        transaction = self._transaction(kazoo)
        if guard is not None and version >= 0:
            transaction.check(shard, guard)
        if version < 0:
            transaction.create(path, attempt.entry.encode())
        elif attempt.entry:
            transaction.set_data(path, attempt.entry.encode(), version)
        else:
            transaction.set_data(shard, b"")
            transaction.delete(path, version)
        return transaction.commit_async()

    def _transaction(self, kazoo: Any) -> Any:
        transaction = kazoo.transaction()
        transaction.check(self._fence, -1)
        return transaction

    def _wrote(self, attempt: _Attempt, results: Any, error: KazooException | None) -> None:
        job = attempt.job
        if error is not None:
            self._stumble(job, error)
            return
        errors = (one for one in results if isinstance(one, KazooException) and not isinstance(one, _SPARED))
        outcome = next(errors, results[-1])
        if isinstance(results[0], NoNodeError):
            self._fail(RegistryError(f"no longer the watcher of {self._broker}"))
        elif isinstance(outcome, NoNodeError) and attempt.version < 0:
            self._fail(RegistryError(f"the parent of {job.path} is gone"))
        elif isinstance(outcome, (BadVersionError, NodeExistsError, NoNodeError)):
            self._look_again(job)
        elif isinstance(outcome, KazooException):
            self._fail(RegistryError(f"{job.path} cannot be written: {outcome!r}"))
        else:
            self.written += 1
            self._finish(job, attempt.wish, attempt.entry, getattr(outcome, "version", 0))

    def _look_again(self, job: _Job) -> None:
        """Somebody else wrote, or nobody knows whether we did."""
        self._known.pop(job.device, None)
        job.guard = None
        if self.failure is None:
            self._step(job, urgent=True)

    def _stumble(self, job: _Job, error: KazooException) -> None:
        if unknown(error):
            self._look_again(job)
        else:
            self._fail(RegistryError(f"{job.path} cannot be written: {error!r}"))

    def _finish(self, job: _Job, wish: _Wish, entry: Entry, version: int) -> None:
        with self._changed:
            if entry.part(self._broker):
                self._known[job.device] = entry, version
            else:
                self._known.pop(job.device, None)
            if self.failure is not None:
                return
            done = job.wish is wish
            if done:
                del self._jobs[job.device]
                self._changed.notify_all()
        job.guard = None
        if not done:
            self._step(job, urgent=job.wish.live)

    def _fail(self, error: RegistryError, quiet: bool = False) -> None:
        with self._changed:
            if self.failure is not None:
                return
            self.failure = error
            self._jobs.clear()
            self._changed.notify_all()
        if not quiet:
            self._on_failure(error)


def _create(path: str, kazoo: Any) -> Any:
    return kazoo.create_async(path)


def _children(path: str, kazoo: Any) -> Any:
    return kazoo.get_children_async(path)


def seen(state: Mapping[str, Any]) -> dict[str, int]:
    """The connection numbers that a broker's state keeps for the next watcher."""
    numbers = state.get("seen")
    pairs = numbers.items() if isinstance(numbers, dict) else ()
    return {str(run): number for run, number in pairs if isinstance(number, int)}


def _decode(data: bytes, path: str) -> Entry:
    try:
        return Entry.decode(data)
    except RegistryError as error:
        log.error("%s is written anew: %s", path, error)
        return Entry()
