"""Addresses and ports before a start."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab import network
from kalinka_jms.lab.layout import Service


@pytest.fixture
def taken() -> Iterator[Service]:
    """A service whose port this process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield Service("dev1.kafka", "dev1", 1, "kafka", "127.0.0.1", {"kafka": listener.getsockname()[1]})


def test_a_taken_port_is_named_with_its_service_and_holder(taken: Service) -> None:
    with pytest.raises(LabError) as caught:
        network.check_ports([taken])
    assert f"dev1.kafka: kafka port 127.0.0.1:{taken.port} is taken by" in str(caught.value)
    assert "--port kafka=" in str(caught.value)
    assert sys.platform != "linux" or f"(pid {os.getpid()})" in str(caught.value)


def test_a_listener_on_all_addresses_is_seen_too() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not network.is_free("127.0.0.1", port)
        assert sys.platform != "linux" or f"(pid {os.getpid()})" in network.holder("127.0.0.1", port)


def test_a_port_that_was_just_closed_is_free(taken: Service) -> None:
    with socket.create_connection(("127.0.0.1", taken.port)):
        pass
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    port = other.getsockname()[1]
    other.close()
    assert network.is_free("127.0.0.1", port)
    network.check_ports([])


def test_an_address_of_another_machine_comes_with_the_command_that_makes_it() -> None:
    network.check_addresses(["127.0.0.1"])
    with pytest.raises(LabError, match=r"192\.0\.2\.1"):
        network.check_addresses(["127.0.0.1", "192.0.2.1"])
    assert network.alias_command("127.0.33.21", "darwin") == "sudo ifconfig lo0 alias 127.0.33.21 up"
    assert network.alias_command("10.0.0.1", "linux") == "sudo ip address add 10.0.0.1/32 dev lo"
