"""The link, against a broker that does what a script says: how it begins, and what it carries."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_broker import PATIENCE, Heard, Peer, ScriptedBroker, ids, message, reset

from kalinka_jms.config import Broker
from kalinka_jms.errors import LinkLost, LinkRefused
from kalinka_jms.stomp import link as stomp
from kalinka_jms.stomp.frames import encode
from kalinka_jms.stomp.link import Link

Script = Callable[[Peer], None]

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def test_what_connect_says() -> None:
    frames = []

    def script(peer: Peer) -> None:
        frames.append(peer.greet())
        peer.wait_for_close()

    with ScriptedBroker(script) as broker:
        link = broker.link(Heard(), login="kal:inka", passcode="pass:\\word", heartbeat=1.5)
        assert link.session == "ID:box-1-2:7"
        link.drop("done")
    assert (frames[0].cmd, frames[0].headers) == (
        "CONNECT",
        {
            "accept-version": "1.2",
            "heart-beat": "1500,1500",
            "host": "127.0.0.1",
            "login": "kal:inka",
            "passcode": "pass:\\word",
        },
    )


def test_two_links_have_two_identities(tmp_path: Path) -> None:
    broker = Broker(name="dev1", stomp="stomp://127.0.0.1:1")
    assert Link(broker, Heard()).identity != Link(broker, Heard()).identity


def test_secrets_are_read_at_each_connect(tmp_path: Path) -> None:
    passcodes = []

    def script(peer: Peer) -> None:
        passcodes.append(peer.greet().headers["passcode"])
        peer.wait_for_close()

    secret = tmp_path / "passcode"
    secret.write_text("at first")
    with ScriptedBroker(script) as broker:
        settings = broker.settings(login="kalinka", passcode={"file": str(secret)})
        for text in ("first\n", "second\n"):
            secret.write_text(text)
            link = Link(settings, Heard())
            link.connect()
            link.drop("done")
        secret.unlink()
        with pytest.raises(LinkLost, match="passcode cannot be read: No such file"):
            Link(settings, Heard()).connect()
    assert passcodes == ["first", "second"]


def fails(settings: Broker, kind: type[Exception], text: str) -> None:
    """`connect` fails this way, and the sink never hears of it."""
    heard = Heard()
    link = Link(settings, heard)
    with pytest.raises(kind, match=text):
        link.connect()
    with pytest.raises(LinkLost):
        link.write(b"SEND\n\n\0")
    assert heard == Heard(ended=heard.ended)
    assert not heard.ended.is_set()


def refuse(peer: Peer) -> None:
    assert peer.frame().cmd == "CONNECT"
    peer.send(b"ERROR\nmessage:User name [x] or password is invalid.\n\njava.lang.SecurityException\n\tat\0\n")


def refuse_in_the_body(peer: Peer) -> None:
    assert peer.frame().cmd == "CONNECT"
    peer.send(b"ERROR\ncontent-type:text/plain\n\nOnly 1.0 here\nreally\0")
    peer.wait_for_close()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (refuse, r"^dev1: the broker reported an error: User name \[x\] or password is invalid.$"),
        (refuse_in_the_body, "^dev1: the broker reported an error: Only 1.0 here$"),
    ],
)
def test_a_broker_that_says_no(script: Script, text: str) -> None:
    with ScriptedBroker(script) as broker:
        fails(broker.settings(), LinkRefused, text)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fails(
        Broker(name="dev1", stomp=f"stomp://127.0.0.1:{port}"),
        LinkLost,
        f"^dev1: cannot connect to stomp://127.0.0.1:{port}: Connection refused$",
    )


def close_at_once(peer: Peer) -> None:
    peer.frame()


def answer_as_a_web_server(peer: Peer) -> None:
    peer.frame()
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.wait_for_close()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (close_at_once, "^dev1: the broker closed the connection$"),
        (reset, "^dev1: .*(Connection reset by peer|closed the connection)$"),  # the first to notice says it
        (answer_as_a_web_server, "^dev1: not a STOMP frame of a server: b'HTTP/1.1 400 Bad'$"),
        (Peer.wait_for_close, "^dev1: no answer to CONNECT$"),
    ],
)
def test_a_broker_that_does_not_answer(script: Script, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stomp, "CONNECT_TIMEOUT", 0.3)
    with ScriptedBroker(script) as broker:
        fails(broker.settings(), LinkLost, text)


def test_dropped_before_it_is_connected() -> None:
    with ScriptedBroker(Peer.wait_for_close) as broker:
        link = Link(broker.settings(), Heard())
        link.drop("we are leaving")
        with pytest.raises(LinkLost, match=r"^dev1: we are leaving$"):
            link.connect()


# --- what it carries


def test_batches_come_in_order() -> None:
    stream = b"".join(message(number, bytes(number % 5)) + b"\n" * (number % 3) for number in range(5000))

    def script(peer: Peer) -> None:
        peer.subscribed()
        for at in range(0, len(stream), 777):
            peer.send(stream[at : at + 777])

    heard = Heard()
    with ScriptedBroker(script) as broker:
        broker.subscribe(heard)
        assert heard.end() == "dev1: the broker closed the connection"
    assert ids(heard.frames) == [str(number) for number in range(5000)]
    assert [frame.body for frame in heard.frames] == [bytes(number % 5) for number in range(5000)]


def test_subscribe() -> None:
    frames = []

    def script(peer: Peer) -> None:
        peer.greet()
        frames.append(peer.frame())

    heard = Heard()
    with ScriptedBroker(script) as broker:
        broker.link(heard).subscribe("/queue/a:b", "1", ack="client", headers={"activemq.prefetchSize": "1000"})
        heard.end()
    assert (frames[0].cmd, frames[0].headers) == (
        "SUBSCRIBE",
        {"destination": "/queue/a:b", "id": "1", "ack": "client", "activemq.prefetchSize": "1000"},
    )


def test_writes_of_many_threads_stay_whole() -> None:
    bodies: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("0,100")
        bodies.extend(itertools.takewhile(bool, (frame.body for frame in peer.frames())))

    def write(link: Link, letter: bytes) -> None:
        for size in range(1, 200):
            link.write(encode("SEND", [("destination", "/topic/a")], letter * size * 100))

    heard = Heard()
    with ScriptedBroker(script) as broker:
        link = broker.link(heard, heartbeat=0.1)
        writers = [threading.Thread(target=write, args=(link, letter)) for letter in (b"a", b"b", b"c", b"d")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(PATIENCE)
        link.write(encode("SEND", []))
        heard.end()
    for letter in (b"a", b"b", b"c", b"d"):
        assert [body for body in bodies if body[:1] == letter] == [letter * size * 100 for size in range(1, 200)]


def test_disconnect_waits_until_everything_was_read() -> None:
    taken: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        for frame in peer.frames():
            if frame.cmd == "DISCONNECT":
                peer.send(message(1))
                peer.confirm(frame)
                break
            taken.append(frame.headers["destination"])

    heard = Heard()
    with ScriptedBroker(script) as broker:
        link = broker.link(heard)
        for number in range(2000):
            link.write(encode("SEND", [("destination", f"/topic/{number}")], bytes(1000)))
        link.disconnect()
        assert taken == [f"/topic/{number}" for number in range(2000)]
        assert heard.ended.is_set()
        assert heard.end() == "dev1: disconnected"
        assert ids(heard.frames) == ["1"]
        link.disconnect()
        link.drop("again")
    assert len(heard.lost) == 1


@pytest.mark.parametrize("backlog", [0, 50_000_000], ids=["nothing to read", "does not read"])
def test_disconnect_of_a_broker_that_does_not_answer(backlog: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stomp, "DISCONNECT_TIMEOUT", 0.3)
    free = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        free.wait(PATIENCE)

    heard = Heard()
    with ScriptedBroker(script) as broker:
        link = broker.link(heard)
        writer = threading.Thread(target=write_until_lost, args=(link, bytes(backlog)))
        writer.start()
        link.disconnect()
        assert heard.end() == "dev1: no receipt for DISCONNECT"
        free.set()


def write_until_lost(link: Link, data: bytes) -> None:
    with contextlib.suppress(LinkLost):
        link.write(data)
