"""kazoo's waiting: what it gets from `select`."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator

import pytest

from kalinka_jms.registry.handler import Handler

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_nothing_is_ready_until_something_comes(pair: Pair) -> None:
    ours, theirs = pair
    assert Handler().select([ours], [], [], 0.01) == ([], [], [])
    theirs.send(b"x")
    assert Handler().select([ours], [], [], 10) == ([ours], [], [])
    assert Handler().select([ours], [], []) == ([ours], [], [])


def test_what_can_be_read_is_told_apart_from_what_can_be_written(pair: Pair) -> None:
    ours, theirs = pair
    assert Handler().select([ours], [ours], [], 10) == ([], [ours], [])
    theirs.send(b"x")
    assert Handler().select([ours], [ours], [], 10) == ([ours], [ours], [])
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    assert Handler().select([], [ours], [], 0.01) == ([], [], [])


def test_one_that_the_other_side_has_closed_is_ready(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    assert Handler().select([ours], [], [], 10) == ([ours], [], [])
    assert Handler().select([], [ours], [], 10) == ([], [ours], [])


def test_one_that_is_closed_here_is_an_error(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(ValueError):
        Handler().select([pair[0]], [], [], 10)


def test_a_timeout_that_has_passed_does_not_wait_for_ever(pair: Pair) -> None:
    assert Handler().select([pair[0]], [], [], -1.0) == ([], [], [])


def test_many_open_files() -> None:
    """`select.select` takes none beyond 1,023."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[1] < 3000:
        pytest.skip(f"only {limit[1]} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], 3000), limit[1]))
    pairs = [socket.socketpair() for _ in range(600)]
    try:
        ours, theirs = pairs[-1]
        assert ours.fileno() > 1023
        theirs.send(b"x")
        assert Handler().select([ours], [], [], 10) == ([ours], [], [])
    finally:
        for one in pairs:
            for end in one:
                end.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
