"""The link over TLS, with certificates that the `openssl` command makes here."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_broker import PATIENCE, Heard, Peer, ScriptedBroker

from kalinka_jms import stomp
from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost
from kalinka_jms.frames import Frame, encode
from kalinka_jms.stomp import Link

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")

BIG = b"0123456789abcdef" * 1_250_000
"""20 MB: more than the sockets' buffers take."""

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.ca = home / "ca.pem"
        self._openssl("req", "-x509", *self._new("ca"), "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")

    def issue(self, name: str, san: str, *, password: str | None = None) -> tuple[str, str]:
        """Make a certificate; return the paths of it and of its key."""
        (self.home / "san").write_text(f"subjectAltName={san}\n")
        self._openssl("req", *self._new(name, password), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
        return str(self.home / f"{name}.pem"), str(self.home / f"{name}.key")

    def _new(self, name: str, password: str | None = None) -> tuple[str, ...]:
        secrecy = ("-passout", f"pass:{password}") if password else ("-nodes",)
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", f"{name}.key", *secrecy)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.home, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
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


# --- whom to trust


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


# --- what it carries, and how it ends


def test_both_send_much_at_once(server: ssl.SSLContext) -> None:
    taken: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.subscribed()
        peer.send(encode("MESSAGE", [], BIG))  # before it reads a byte of what the link sends
        taken.append(peer.frame().body)
        peer.send(encode("MESSAGE", [], b"end"))
        peer.wait_for_close()

    heard, ended = Heard(), threading.Event()

    def sink(batch: list[Frame] | LinkLost) -> None:
        heard(batch)
        if heard.frames[-1].body == b"end":
            ended.set()

    with ScriptedBroker(script, server) as broker:
        link = broker.subscribe(sink, tls={"verify": False})
        link.write(encode("SEND", [], BIG))
        assert ended.wait(PATIENCE)
        link.drop("enough")
        heard.end()
    assert taken == [BIG]
    assert [frame.body for frame in heard.frames] == [BIG, b"end"]


def test_writes_go_out_while_the_sink_holds_the_reader_back(server: ssl.SSLContext) -> None:
    taken, beaten = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.subscribed("500,100")
        peer.send(encode("MESSAGE", [], b"hold on"))
        assert peer.frame().body == b"meanwhile"
        taken.set()
        peer.until_beat(30)  # 3 seconds: without a word from here the link would end after 2.6
        beaten.set()

    heard, held = Heard(), threading.Event()

    def sink(batch: list[Frame] | LinkLost) -> None:
        held.set()
        while isinstance(batch, list) and not beaten.wait(0.02):
            link.heard()
        heard(batch)

    with ScriptedBroker(script, server) as broker:
        link = Link(broker.settings(tls={"verify": False}, heartbeat=0.1), sink)
        link.connect()
        link.subscribe("/queue/a", "1")
        assert held.wait(PATIENCE)
        link.write(encode("SEND", [], b"meanwhile"))
        assert taken.wait(PATIENCE)
        assert heard.end() == "dev1: the broker closed the connection"


def test_dropped_while_the_broker_is_frozen(server: ssl.SSLContext) -> None:
    free = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        free.wait(PATIENCE)

    heard = Heard()
    with ScriptedBroker(script, server) as broker:
        link = broker.link(heard, tls={"verify": False})
        link.drop("enough")
        assert heard.end() == "dev1: enough"
        free.set()


def test_dropped_while_a_write_waits_for_a_frozen_broker(server: ssl.SSLContext) -> None:
    free, written = threading.Event(), threading.Event()
    failures: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.socket.recv(1)
        written.set()
        free.wait(PATIENCE)

    def write() -> None:
        with pytest.raises(LinkLost, match=r"^dev1: enough$"):
            link.write(encode("SEND", [], BIG))
        failures.append("write")

    heard = Heard()
    with ScriptedBroker(script, server) as broker:
        link = broker.link(heard, tls={"verify": False})
        writer = threading.Thread(target=write)
        writer.start()
        assert written.wait(PATIENCE)
        link.drop("enough")
        writer.join(PATIENCE)
        assert failures == ["write"]
        assert heard.end() == "dev1: enough"
        free.set()


def close_without_a_word(peer: Peer) -> None:
    peer.greet()
    peer.frame()


def close_as_tls_has_it(peer: Peer) -> None:
    peer.greet()
    peer.frame()
    peer.socket.unwrap()  # type: ignore[attr-defined]


def fall_silent(peer: Peer) -> None:
    peer.greet("100,100")
    peer.wait_for_close()


def send_what_is_not_tls(peer: Peer) -> None:
    peer.greet()
    peer.frame()
    socket.socket.send(peer.socket, b"\nMESSAGE\n\n\0 in the clear, longer than a record's header")
    peer.wait_for_close()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (close_without_a_word, "the broker closed the connection"),
        (close_as_tls_has_it, "the broker closed the connection"),
        (fall_silent, "no heart-beat from the broker"),
        (send_what_is_not_tls, "the connection broke: "),
    ],
)
def test_the_broker_ends_it(server: ssl.SSLContext, script: Callable[[Peer], None], text: str) -> None:
    heard = Heard()
    with ScriptedBroker(script, server) as broker:
        link = broker.link(heard, tls={"verify": False}, heartbeat=0.1)
        link.write(encode("SEND", []))
        assert heard.end().startswith(f"dev1: {text}")
        with pytest.raises(LinkLost):
            link.write(encode("SEND", []))
