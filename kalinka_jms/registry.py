"""Device → brokers, in ZooKeeper: the session, the reading cache, the election of watchers and what they write."""

from __future__ import annotations

from kalinka_jms.election import Election
from kalinka_jms.entry import Entry, Part
from kalinka_jms.owners import UNKNOWN, Directory, Owners, Unknown
from kalinka_jms.writer import Writer
from kalinka_jms.zookeeper import Client, connect

__all__ = ["UNKNOWN", "Client", "Directory", "Election", "Entry", "Owners", "Part", "Unknown", "Writer", "connect"]
