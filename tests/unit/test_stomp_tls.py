"""The link over TLS, with certificates that the `openssl` command makes here."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_broker import Heard, Peer, ScriptedBroker

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.lab.authority import Authority
from kalinka_jms.stomp import link as stomp
from kalinka_jms.stomp.frames import encode
from kalinka_jms.stomp.link import Link

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def hello(peer: Peer) -> None:
    """One frame each way, then leave as TLS has it."""
    peer.subscribed()
    peer.send(encode("MESSAGE", [], b"hello"))
    for frame in peer.frames():
        if frame.cmd == "DISCONNECT":
            peer.confirm(frame)
            break
        assert frame.body == b"hello to you"
    peer.socket.unwrap()  # type: ignore[attr-defined]


def greet(peer: Peer) -> None:
    peer.greet()
    peer.wait_for_close()


def talks(broker: ScriptedBroker, **settings: Any) -> None:
    heard = Heard()
    link = broker.subscribe(heard, **settings)
    link.write(encode("SEND", [], b"hello to you"))
    link.disconnect()
    assert heard.end() == "dev1: disconnected"
    assert [frame.body for frame in heard.frames] == [b"hello"]


def fails(settings: Broker, text: str) -> None:
    with pytest.raises(LinkLost, match=text):
        Link(settings, Heard()).connect()


def test_a_trusted_broker(server: ssl.SSLContext, authority: Authority) -> None:
    with ScriptedBroker(hello, server) as broker:
        talks(broker, tls={"ca": str(authority.ca)})


def test_a_broker_of_another_authority(server: ssl.SSLContext, stranger: Authority) -> None:
    with ScriptedBroker(hello, server) as broker:
        fails(
            broker.settings(tls={"ca": str(stranger.ca)}),
            rf"^dev1: cannot connect to stomps://127.0.0.1:{broker.port}: certificate verify failed: "
            "unable to get local issuer certificate$",
        )
    assert "unknown ca" in broker.refused[0]


def test_the_authorities_of_the_system_do_not_know_it(server: ssl.SSLContext) -> None:
    with ScriptedBroker(hello, server) as broker:
        fails(broker.settings(), "certificate verify failed")


def test_a_certificate_for_another_host(server: ssl.SSLContext, authority: Authority) -> None:
    server.load_cert_chain(*authority.issue("elsewhere", "DNS:elsewhere,IP:127.0.0.2"))
    with ScriptedBroker(hello, server) as broker:
        fails(broker.settings(tls={"ca": str(authority.ca)}), "certificate verify failed: IP address mismatch")


def test_any_broker_without_verify(server: ssl.SSLContext) -> None:
    with ScriptedBroker(hello, server) as broker:
        talks(broker, tls={"verify": False})


def test_both_show_a_certificate(server: ssl.SSLContext, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    server.load_verify_locations(authority.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    cert, key = authority.issue("bridge", "DNS:bridge", password="geheim")
    monkeypatch.setenv("KALINKA_KEY", "geheim")
    with ScriptedBroker(hello, server) as broker:
        ours = {"ca": str(authority.ca), "cert": cert, "key": key, "key_password": {"env": "KALINKA_KEY"}}
        talks(broker, tls=ours)
        fails(broker.settings(tls={"ca": str(authority.ca)}), r"alert (certificate required|handshake failure)")


def test_certificates_are_read_at_each_connect(
    server: ssl.SSLContext, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(stranger.ca, ca)
    with ScriptedBroker(greet, server) as broker:
        settings = broker.settings(tls={"ca": str(ca)})
        fails(settings, "certificate verify failed")
        shutil.copy(authority.ca, ca)
        heard = Heard()
        link = Link(settings, heard)
        link.connect()
        link.drop("done")
        assert heard.end() == "dev1: done"
        ca.unlink()
        fails(settings, "No such file or directory")


def test_a_broker_without_tls(authority: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(4096)
        peer.send(b"ERROR\nmessage:what is this\n\n\0")
        peer.wait_for_close()

    with ScriptedBroker(script) as broker:
        fails(broker.settings(stomp=f"stomps://127.0.0.1:{broker.port}"), "(?i)wrong.version.number")


def test_a_broker_with_tls_and_a_link_without(server: ssl.SSLContext) -> None:
    with ScriptedBroker(hello, server) as broker:
        fails(broker.settings(stomp=f"stomp://127.0.0.1:{broker.port}"), "not a STOMP frame|closed|reset")


@pytest.mark.parametrize(
    ("script", "text"),
    [(Peer.wait_for_close, "timed out$"), (lambda peer: peer.socket.recv(4096), "closed during the TLS handshake$")],
)
def test_a_handshake_that_does_not_end(
    script: Callable[[Peer], None], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stomp, "CONNECT_TIMEOUT", 0.3)
    with ScriptedBroker(script) as broker:
        fails(broker.settings(stomp=f"stomps://127.0.0.1:{broker.port}"), text)
