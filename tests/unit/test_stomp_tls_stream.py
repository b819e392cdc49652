"""The link over TLS: both directions at once, and how it ends."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

import pytest
from scripted_broker import PATIENCE, Heard, Peer, ScriptedBroker

from kalinka_jms.errors import LinkLost
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

BIG = b"0123456789abcdef" * 1_250_000
"""20 MB: more than the sockets' buffers take."""


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


def test_frames_that_came_together_are_taken_together(server: ssl.SSLContext) -> None:
    """A broker sends each frame as a TLS record of its own; the reader pauses after what it takes, not after each."""
    batches: list[list[Frame]] = []
    sent, ended = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.subscribed()
        peer.send(encode("MESSAGE", [], b"first"))
        for number in range(500):
            peer.send(encode("MESSAGE", [], b"%d" % number))
        sent.set()
        peer.wait_for_close()

    heard = Heard()

    def sink(batch: list[Frame] | LinkLost) -> None:
        heard(batch)
        if isinstance(batch, list):
            batches.append(batch)
            assert sent.wait(PATIENCE)
        if len(heard.frames) == 501:
            ended.set()

    with ScriptedBroker(script, server) as broker:
        link = broker.subscribe(sink, tls={"verify": False})
        assert ended.wait(PATIENCE)
        link.drop("enough")
        heard.end()
    assert [frame.body for frame in heard.frames] == [b"first", *(b"%d" % number for number in range(500))]
    assert len(batches) < 25  # of the socket's 64 KiB each, about


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


def speak_and_close_at_once(peer: Peer) -> None:
    peer.greet()
    peer.frame()
    peer.send(encode("MESSAGE", [], b"last words"))
    peer.send(encode("ERROR", [("message", "go away")]))


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
        (speak_and_close_at_once, "the broker reported an error: go away"),
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
