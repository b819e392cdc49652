"""A broker with a small store.

A file of the journal is kept for any record in it, also that of a subscription: persistent sessions that came one
after the other keep several, and with a few large files the store would be full for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from kalinka_jms.lab import servers

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

CHANGES = {
    '<storeUsage limit="4 gb"/>': '<storeUsage limit="8 mb"/>',
    # whole journal files count: with the usual 32 MB the limit would be passed before the first message
    'journalDiskSyncStrategy="always"': 'journalDiskSyncStrategy="always" journalMaxFileLength="256kb" '
    'checkpointInterval="500" cleanupInterval="1000"',
}


@contextmanager
def limited(stage: Stage, node: str) -> Iterator[None]:
    """The node's broker may store 8 MB; afterwards as much as before."""
    name = f"{node}.activemq"
    usual = servers.broker_xml

    def small(*args: object, **options: object) -> str:
        text = usual(*args, **options)  # type: ignore[arg-type]
        for old, new in CHANGES.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    stage.lab.kill([name])
    with patch.object(servers, "broker_xml", small):
        stage.wipe(node)
        stage.lab.start([name])
    try:
        yield
    finally:
        stage.settle()  # what it stored must be out before it loses its store
        stage.lab.kill([name])
        stage.wipe(node)
        stage.lab.start([name])
