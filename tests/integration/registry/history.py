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

    def changes(self, below: str, since: int = 0) -> list[Change]:
        """What happened to znodes at or below a path after that zxid, in order."""
        found = [change for change in self._all() if change.zxid > since and _within(change.path, below)]
        return sorted(found, key=lambda change: change.zxid)

    def entries(self, root: str, device: str) -> list[tuple[Change, Entry]]:
        """Every state that a device's entry ever had, in order; empty ones where it was gone."""
        changes = [change for change in self.changes(root) if unescape(change.path.rpartition("/")[2]) == device]
        return [(change, Entry.decode(change.data) if change.data else Entry()) for change in changes]

    def _all(self) -> Iterator[Change]:
        for log in self._logs.glob("log.*"):
            yield from _read(log.read_bytes())


def _within(path: str, below: str) -> bool:
    return path == below or path.startswith(f"{below}/")


def _read(log: bytes) -> Iterator[Change]:
    """Records up to the zeros that the file was filled with, or to one that is being written."""
    at = 16  # magic, version, database
    while at + FRAME.size <= len(log):
        _, length = FRAME.unpack_from(log, at)
        at += FRAME.size
        if length <= 0 or log[at + length : at + length + 1] != b"B":
            return
        record = log[at : at + length]
        at += length + 1
        session, _, zxid, time, kind = HEADER.unpack_from(record)
        for path, data in _changes(kind, record[HEADER.size :]):
            yield Change(time / 1000, zxid, session, path, data)


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
