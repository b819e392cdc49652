"""Can the registry be reached, and may it be written?"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterator
from typing import Any

from kazoo.exceptions import NoAuthError

from kalinka_jms.checks.finding import Finding, Kind
from kalinka_jms.config import Settings
from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.zookeeper import Client, connect

WHERE = "ZooKeeper"
TIMEOUT = 10.0
"""Seconds for the session, and for each answer."""


def check(settings: Settings) -> Iterator[Finding]:
    """Everything about ZooKeeper. Raises nothing that its state can cause."""
    try:
        client = connect(settings.zookeeper, TIMEOUT)
    except (RegistryError, ValueError) as error:
        yield Finding(WHERE, Kind.UNREACHABLE, str(error), "start it, or correct hosts, auth and tls in [zookeeper]")
        return
    try:
        yield from _rights(client, settings.zookeeper.root)
    except RegistryError as error:
        yield Finding(WHERE, Kind.UNREACHABLE, str(error), "look into its log")
    finally:
        client.stop()


def _rights(client: Client, root: str) -> Iterator[Finding]:
    """Of the places that are written: the root, and its parent, where all else is kept."""
    refused = [path for path in (posixpath.dirname(root), root) if not _writable(client, path)]
    for path in refused:
        means = f"{path} may not be written: no device can be registered"
        yield Finding(
            WHERE, Kind.FINDING, means, "use the auth that made it, or give this one all rights on it (setAcl)"
        )
    if not refused:
        yield Finding(WHERE, Kind.FINE, f"{root} can be written")


def _writable(client: Client, path: str) -> bool:
    """Whether a child can be made and deleted. Both in one transaction: nobody sees it, and nothing is left."""
    there = path
    while not _exists(client, there):
        there = posixpath.dirname(there)
    child = posixpath.join(there, f"kalinka-check-{uuid.uuid4().hex}")

    def request(kazoo: Any) -> Any:
        transaction = kazoo.transaction()
        transaction.create(child, b"")
        transaction.delete(child)
        return transaction.commit_async()

    (results,) = client.gather([request], TIMEOUT)
    return not any(isinstance(result, NoAuthError) for result in results)


def _exists(client: Client, path: str) -> bool:
    (stat,) = client.gather([lambda kazoo: kazoo.exists_async(path)], TIMEOUT)
    return stat is not None or path == "/"
