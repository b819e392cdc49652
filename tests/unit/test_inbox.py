"""The inbox: bounded in bytes, without letting the link die, and never in the way of its end."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kalinka_jms.errors import LinkLost
from kalinka_jms.pub.inbox import Inbox
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.stomp.link import Link

HEAD = b"MESSAGE"
BATCH = [Frame(HEAD, b"x" * 93)]  # 100 bytes
PATIENCE = 10.0


class Reader(threading.Thread):
    """The link's reading thread, with one batch to deliver."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(daemon=True)
        self._inbox = inbox

    def run(self) -> None:
        self._inbox.put(BATCH)


def test_batches_come_out_as_they_went_in() -> None:
    inbox = Inbox(1000)
    inbox.put(BATCH)
    assert inbox.get(0) is BATCH
    assert inbox.get(0) == []


def test_the_end_of_the_link_comes_after_what_it_brought() -> None:
    inbox = Inbox(1000)
    inbox.put(BATCH)
    inbox.put(LinkLost("gone"))
    assert inbox.get(0) is BATCH
    with pytest.raises(LinkLost, match="gone"):
        inbox.get(0)


def test_one_batch_is_taken_however_large_and_the_next_waits_until_it_is_released() -> None:
    inbox = Inbox(10)
    inbox.put(BATCH)
    reader = Reader(inbox)
    reader.start()
    assert inbox.get(0) is BATCH
    assert inbox.get(0.05) == []
    inbox.release(100)
    assert inbox.get(PATIENCE) is BATCH
    reader.join(PATIENCE)


def test_a_link_that_is_held_back_stays_alive() -> None:
    heard = threading.Semaphore(0)
    link: Any = SimpleNamespace(broker=SimpleNamespace(heartbeat=0.01), heard=heard.release)
    inbox = Inbox(10)
    inbox.attach(cast(Link, link))
    inbox.put(BATCH)
    reader = Reader(inbox)
    reader.start()
    assert all(heard.acquire(timeout=PATIENCE) for _ in range(3))
    inbox.release(100)
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_closed_it_lets_the_reader_go_discards_what_comes_and_still_tells_the_end() -> None:
    inbox = Inbox(10)
    inbox.put(BATCH)
    reader = Reader(inbox)
    reader.start()
    inbox.close()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    inbox.put(BATCH)
    inbox.put(LinkLost("gone"))
    assert inbox.get(0) is BATCH
    with pytest.raises(LinkLost, match="gone"):
        inbox.get(0)
