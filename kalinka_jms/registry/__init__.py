"""Device → brokers, in ZooKeeper: the session, the reading cache, the election of watchers and what they write."""

from __future__ import annotations

from kalinka_jms.registry.election import Election
from kalinka_jms.registry.entry import Entry, Part
from kalinka_jms.registry.owners import UNKNOWN, Directory, Owners, Unknown
from kalinka_jms.registry.writer import Writer
from kalinka_jms.registry.zookeeper import Client, connect

__all__ = ["UNKNOWN", "Client", "Directory", "Election", "Entry", "Owners", "Part", "Unknown", "Writer", "connect"]
