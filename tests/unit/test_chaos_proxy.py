"""The proxy passes every byte in order, and breaks only what it is told to break."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from kalinka_jms.lab.waiting import wait_until
from tests.chaos.proxy import Proxy

PATIENCE = 20.0


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(PATIENCE)
        yield server


@pytest.fixture
def proxy(server: socket.socket) -> Iterator[Proxy]:
    proxy = Proxy(server.getsockname())
    yield proxy
    proxy.close()


def joined(proxy: Proxy, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection through the proxy."""
    client = socket.create_connection(proxy.address, PATIENCE)
    other, _ = server.accept()
    other.settimeout(PATIENCE)
    return client, other


def read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def silent(end: socket.socket) -> bool:
    """Nothing comes within a moment, and the connection stands."""
    end.settimeout(0.2)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE)
    return False


def test_bytes_pass_both_ways_in_order(proxy: Proxy, server: socket.socket) -> None:
    client, other = joined(proxy, server)
    text = b"".join(b"%d " % number for number in range(20_000))
    client.sendall(text)
    assert read(other, len(text)) == text
    other.sendall(text)
    assert read(client, len(text)) == text


def test_the_end_of_one_side_reaches_the_other_after_the_last_byte(proxy: Proxy, server: socket.socket) -> None:
    client, other = joined(proxy, server)
    client.sendall(b"bye")
    client.close()
    assert read(other, 99) == b"bye"
    assert wait_until(lambda: not proxy.open, PATIENCE)


def test_a_black_hole_keeps_everything_and_closes_nothing(proxy: Proxy, server: socket.socket) -> None:
    client, other = joined(proxy, server)
    client.sendall(b"a")
    assert read(other, 1) == b"a"
    proxy.freeze()
    client.sendall(b"b")
    other.sendall(b"c")
    assert silent(other)
    assert silent(client)
    proxy.thaw()
    assert (read(other, 1), read(client, 1)) == (b"b", b"c")


def test_one_client_vanishes_and_the_others_go_on(proxy: Proxy, server: socket.socket) -> None:
    """Half open: the server never learns that the client closed."""
    first, first_end = joined(proxy, server)
    second, second_end = joined(proxy, server)
    proxy.freeze(first.getsockname())
    first.close()
    assert silent(first_end)
    second.sendall(b"x")
    assert read(second_end, 1) == b"x"


def test_a_cut_ends_both_sides(proxy: Proxy, server: socket.socket) -> None:
    client, other = joined(proxy, server)
    proxy.freeze()
    proxy.cut()
    assert (client.recv(1), other.recv(1)) == (b"", b"")


def test_a_new_connection_into_a_black_hole_leads_nowhere(proxy: Proxy, server: socket.socket) -> None:
    proxy.freeze()
    client, other = joined(proxy, server)
    client.sendall(b"x")
    assert silent(other)


def test_pressure_of_a_slow_end_reaches_the_other(proxy: Proxy, server: socket.socket) -> None:
    """Nothing is kept beyond a buffer: a writer has to wait for a reader."""
    client, other = joined(proxy, server)
    client.settimeout(0.5)
    with closing(other), pytest.raises(TimeoutError):
        for _ in range(2000):
            client.sendall(bytes(65536))


def test_where_nobody_listens_the_client_hears_it() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        address = gone.getsockname()
    proxy = Proxy(address)
    with closing(socket.create_connection(proxy.address, PATIENCE)) as client:
        assert client.recv(1) == b""
    proxy.close()
