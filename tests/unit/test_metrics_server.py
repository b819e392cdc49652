"""Metrics and health over HTTP."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from kalinka_cli.main import app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from test_health import NOW, One
from typer.testing import CliRunner

from kalinka_jms.errors import ConfigError
from kalinka_jms.health import Health
from kalinka_jms.metrics.server import parse_address, serving


class Answer(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("kalinka_answer", "To everything.", 42)


def get(address: tuple[str, int], path: str, method: str = "GET") -> tuple[int, bytes]:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    request = urllib.request.Request(f"http://{host}:{address[1]}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_metrics_health_and_readiness_have_their_paths(host: str) -> None:
    one, registry = One(waiting_for=("the broker dev2",)), CollectorRegistry()
    registry.register(Answer())
    try:
        with serving((host, 0), Health([one], lambda: NOW), registry) as address:
            assert b"kalinka_answer 42.0" in get(address, "/metrics")[1]
            assert get(address, "/healthz")[0] == 200
            status, body = get(address, "/readyz")
            assert (status, json.loads(body)["services"]["sub"]) == (503, {"waiting for": ["the broker dev2"]})
            one.waiting_for, one.failed = (), True
            assert (get(address, "/readyz")[0], get(address, "/healthz")[0]) == (200, 503)
            assert get(address, "/readyz", "POST")[0] == 405
            assert get(address, "/secrets")[0] == 404
    except ConfigError as error:
        if host == "::1" and "cannot be taken" in str(error):
            pytest.skip(f"no IPv6 here: {error}")
        raise


def test_a_client_that_says_nothing_holds_nobody_up() -> None:
    with (
        serving(("127.0.0.1", 0), Health([One()], lambda: NOW), CollectorRegistry()) as address,
        socket.create_connection(address),
    ):
        assert get(address, "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:9464", ("::1", 9464)),
        ("host-1.example:80", ("host-1.example", 80)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "9464", ":9464", "host", "host:", "host:http", "host:70000", "host:-1", "u@host:1", "h:1/m", "::1:9"]
)
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--metrics = .*should be HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("address", [("127.0.0.1", 1), ("192.0.2.1", 0), ("no.such.host.invalid", 0)])
def test_an_address_that_cannot_be_taken_is_refused_in_words(address: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        host, port = address if address[1] != 1 else other.getsockname()
        with (
            pytest.raises(ConfigError, match=r"--metrics = .*cannot be taken"),
            serving((host, port), Health([]), CollectorRegistry()),
        ):
            pass


@pytest.mark.parametrize("service", ["pub", "sub", "registry", "run"])
def test_every_service_has_the_option_and_refuses_what_it_cannot_be(service: str) -> None:
    result = CliRunner().invoke(app, [service, "--config", "nowhere.toml", "--metrics", "9464"])
    assert isinstance(result.exception, ConfigError)
    assert "should be HOST:PORT" in str(result.exception)
