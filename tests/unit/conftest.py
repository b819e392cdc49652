"""Fixtures for the tests of the link, and how properties are tried."""

from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from scripted_broker import PATIENCE

from kalinka_jms.lab.authority import Authority

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # other work may have the machine: how long an example takes says nothing

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every link takes its threads with it, and stomp.py says nothing."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread
    assert [record for record in caplog.records if record.name == "stomp.py"] == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> tuple[str, str]:
    return authority.issue("broker", "IP:127.0.0.1")


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, certificate: tuple[str, str]) -> ssl.SSLContext:
    """What a broker with our authority's certificate speaks."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    context.minimum_version = context.maximum_version = VERSIONS[request.param]
    return context
