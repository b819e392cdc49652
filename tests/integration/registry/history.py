"""Everything that was ever written to ZooKeeper, in order: read from its log of transactions.

Watches would not do: they tell that a znode changed, and what it holds some time later. The log holds every state it
ever had, when, and by which session, also what was written and undone within a millisecond.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.znodes import unescape

CREATE, DELETE, SET, MULTI, CREATE_2, CLOSE = 1, 2, 5, 14, 15, -11
"""Kinds of transactions (org.apache.zookeeper.ZooDefs.OpCode); those that are not here change no znode."""

HEADER = struct.Struct("!qiqqi")  # session, number in it, zxid, milliseconds since the epoch, kind
FRAME = struct.Struct("!qi")  # checksum, length


@dataclass(frozen=True, slots=True)
class Change:
    """One znode after one transaction; `data` is None where it is gone."""

    at: float
    """Seconds since the epoch, by ZooKeeper's clock: when it took the transaction in."""
    zxid: int
    session: int
    path: str
    data: bytes | None


class History:
    """The log of one ZooKeeper server, from its directory of data."""

    def __init__(self, data: Path) -> None:
        self._logs = data / "version-2"
        self._found: list[Change] = []
        self._read: dict[Path, int] = {}  # bytes of each log that were read

    def changes(self, below: str, since: int = 0) -> list[Change]:
        """What happened to znodes at or below a path after that zxid, in order."""
        self._read_on()
        return [change for change in self._found if change.zxid > since and _within(change.path, below)]

    def entries(self, root: str, device: str) -> list[tuple[Change, Entry]]:
        """Every state that a device's entry ever had, in order; empty ones where it was gone."""
        changes = [change for change in self.changes(root) if unescape(change.path.rpartition("/")[2]) == device]
        return [(change, Entry.decode(change.data) if change.data else Entry()) for change in changes]

    def _read_on(self) -> None:
        for path in self._logs.glob("log.*"):
            with path.open("rb") as log:
                log.seek(at := self._read.get(path, 16))  # magic, version, database
                found, length = _parse(log.read())
            self._found += found
            self._read[path] = at + length
        self._found.sort(key=lambda change: change.zxid)


def _within(path: str, below: str) -> bool:
    return path == below or path.startswith(f"{below}/")


def _parse(log: bytes) -> tuple[list[Change], int]:
    """Records up to the zeros that the file was filled with, or to one that is being written; how many bytes."""
    found, at = list[Change](), 0
    while at + FRAME.size <= len(log):
        _, length = FRAME.unpack_from(log, at)
        end = at + FRAME.size + length
        if length <= 0 or log[end : end + 1] != b"B":
            break
        record = log[at + FRAME.size : end]
        session, _, zxid, time, kind = HEADER.unpack_from(record)
        found += [Change(time / 1000, zxid, session, *change) for change in _changes(kind, record[HEADER.size :])]
        at = end + 1
    return found, at


def _changes(kind: int, body: bytes) -> Iterator[tuple[str, bytes | None]]:
    if kind == MULTI:
        (count,) = struct.unpack_from("!i", body)
        at = 4
        for _ in range(count):
            (part,) = struct.unpack_from("!i", body, at)
            data, at = _buffer(body, at + 4)
            yield from _changes(part, data)
    elif kind in (CREATE, CREATE_2, SET):
        path, at = _buffer(body, 0)
        yield path.decode(), _buffer(body, at)[0]
    elif kind == DELETE:
        yield _buffer(body, 0)[0].decode(), None
    elif kind == CLOSE and body:
        (count,) = struct.unpack_from("!i", body)
        at = 4
        for _ in range(count):
            path, at = _buffer(body, at)
            yield path.decode(), None


def _buffer(body: bytes, at: int) -> tuple[bytes, int]:
    """The bytes there, and where they end."""
    (length,) = struct.unpack_from("!i", body, at)
    return body[at + 4 : at + 4 + max(0, length)], at + 4 + max(0, length)
