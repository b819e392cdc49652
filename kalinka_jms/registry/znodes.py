"""Where the registry keeps things in ZooKeeper.

<root>/<shard>/<device>            an entry: every broker where the device listens
<root's parent>/brokers/<broker>   whether the broker counts, as its watcher last saw it
<root's parent>/watchers/<broker>  the election of the broker's watcher
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from urllib.parse import quote, unquote
from zlib import crc32

SHARDS = 256
"""So that no list of children grows beyond what one packet of ZooKeeper holds (1 MiB)."""


@dataclass(frozen=True, slots=True)
class Znodes:
    """The paths below one root, e.g. `/kalinka/devices`."""

    root: str

    @property
    def shards(self) -> tuple[str, ...]:
        """The parents of all entries."""
        return tuple(f"{self.root}/{number:02x}" for number in range(SHARDS))

    def device(self, device: str) -> str:
        """The entry of a device."""
        return f"{self.root}/{crc32(device.encode()) % SHARDS:02x}/{escape(device)}"

    def broker(self, broker: str) -> str:
        """The state of a broker."""
        return f"{posixpath.dirname(self.root)}/brokers/{escape(broker)}"

    def election(self, broker: str) -> str:
        """The election of a broker's watcher."""
        return f"{posixpath.dirname(self.root)}/watchers/{escape(broker)}"


def escape(name: str) -> str:
    """The name as a znode's: ZooKeeper refuses control characters, `/`, `.` and `..`."""
    return quote(name, safe="").replace(".", "%2E")


def unescape(name: str) -> str:
    """The name that a znode's stands for."""
    return unquote(name)
