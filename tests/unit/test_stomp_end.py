"""The link, against a broker that does what a script says: how it ends, and what holds it."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable

import pytest
from scripted_broker import PATIENCE, Heard, Peer, ScriptedBroker, ids, message, reset

from kalinka_jms.errors import LinkLost
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link

Script = Callable[[Peer], None]

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def greet(peer: Peer) -> None:
    peer.subscribed()
    peer.send(message(1))


def end_by_close(peer: Peer) -> None:
    greet(peer)


def end_by_reset(peer: Peer) -> None:
    peer.subscribed()
    reset(peer)


def end_by_garbage(peer: Peer) -> None:
    greet(peer)
    peer.send(b"\x80\x01garbage")
    peer.wait_for_close()


def end_by_error(peer: Peer) -> None:
    greet(peer)
    peer.send(b"ERROR\nmessage:no\\c not that\n\n\0")
    peer.wait_for_close()


def end_by_bad_receipt(peer: Peer) -> None:
    greet(peer)
    peer.send(b"RECEIPT\n\n\0")
    peer.wait_for_close()


def end_by_silence(peer: Peer) -> None:
    peer.greet("100,0")
    peer.wait_for_close()


def end_by_bad_heartbeat(peer: Peer) -> None:
    peer.greet("often,please")
    peer.wait_for_close()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (end_by_close, "dev1: the broker closed the connection"),
        (end_by_reset, "dev1: the connection broke: Connection reset by peer"),
        (end_by_garbage, "dev1: not a STOMP frame of a server: b'\\x80\\x01garbage'"),
        (end_by_error, "dev1: the broker reported an error: no: not that"),
        (end_by_bad_receipt, "dev1: the reader failed: KeyError('receipt-id')"),
        (end_by_silence, "dev1: no heart-beat from the broker"),
        (
            end_by_bad_heartbeat,
            "dev1: the reader failed: ValueError(\"invalid literal for int() with base 10: 'please'\")",
        ),
    ],
)
def test_the_broker_ends_it(script: Script, text: str) -> None:
    heard = Heard()
    with ScriptedBroker(script) as broker:
        link = broker.link(heard, heartbeat=0.1)
        with contextlib.suppress(LinkLost):
            link.subscribe("/queue/a", "1")
        assert heard.end() == text
        assert heard.lost[0].by_broker == (script in (end_by_close, end_by_reset, end_by_error))
        with pytest.raises(LinkLost, match="dev1: "):
            link.write(b"SEND\n\n\0")
        with pytest.raises(LinkLost, match="dev1: "):
            link.subscribe("/queue/a", "1")
        link.disconnect()
        link.heard()
    assert len(heard.lost) == 1


def keep_sending(peer: Peer) -> None:
    peer.subscribed()
    for number in itertools.count():
        peer.send(message(number))


def test_an_unfinished_frame_goes_with_its_link() -> None:
    """A link's parts refer to each other: until gc finds them they would keep it, up to 100 MB."""

    def script(peer: Peer) -> None:
        greet(peer)
        peer.send(b"MESSAGE\ncontent-length:1000\n\nnot all of it")

    heard = Heard()
    with ScriptedBroker(script) as broker:
        link = broker.subscribe(heard)
        assert heard.end() == "dev1: the broker closed the connection"
    assert link._transport._parser.buffered == 0


def test_dropped_by_another_thread() -> None:
    heard = Heard()
    with ScriptedBroker(keep_sending) as broker:
        link = broker.subscribe(heard)
        for reason in ("enough", "too much"):
            link.drop(reason)
        assert heard.end() == "dev1: enough"
        assert not heard.lost[0].by_broker
    assert ids(heard.frames) == [str(number) for number in range(len(heard.frames))]


def test_dropped_by_the_sink() -> None:
    heard = Heard()

    def sink(batch: list[Frame] | LinkLost) -> None:
        heard(batch)
        link.drop("enough")

    with ScriptedBroker(keep_sending) as broker:
        link = Link(broker.settings(), sink)
        link.connect()
        link.subscribe("/queue/a", "1")
        assert heard.end() == "dev1: enough"
        assert not heard.lost[0].by_broker


def test_a_sink_that_fails() -> None:
    heard = Heard()

    def sink(batch: list[Frame] | LinkLost) -> None:
        heard(batch)
        if isinstance(batch, list):
            raise OSError("disk full")

    with ScriptedBroker(keep_sending) as broker:
        broker.subscribe(sink)
        assert heard.end() == "dev1: the reader failed: OSError('disk full')"
    assert isinstance(heard.lost[0].__cause__, OSError)


def test_nothing_after_an_error_is_delivered() -> None:
    """The echo that follows a refused SEND must not prove it."""

    def script(peer: Peer) -> None:
        peer.subscribed()
        peer.send(message(1) + message(2) + b"ERROR\nmessage:bad SEND\n\n\0" + message(3) + message(4))
        peer.wait_for_close()

    heard = Heard()
    with ScriptedBroker(script) as broker:
        broker.subscribe(heard)
        assert heard.end() == "dev1: the broker reported an error: bad SEND"
    assert ids(heard.frames) == ["1", "2"]


def test_a_broker_that_freezes_while_much_is_written() -> None:
    free = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet("100,100")
        free.wait(PATIENCE)

    heard = Heard()
    with ScriptedBroker(script) as broker:
        link = broker.link(heard, heartbeat=0.1)
        with pytest.raises(LinkLost, match=r"^dev1: no heart-beat from the broker$"):
            link.write(encode("SEND", [], bytes(50_000_000)))
        assert heard.end() == "dev1: no heart-beat from the broker"
        free.set()


def test_a_sink_that_holds_the_reader_back_and_says_so() -> None:
    heard, beaten = Heard(), threading.Event()

    def script(peer: Peer) -> None:
        peer.subscribed("500,100")
        peer.send(message(1))
        peer.until_beat(30)  # 3 seconds: without a word from here the link would end after 2.6
        beaten.set()
        assert peer.frame().body == b"still here"

    def sink(batch: list[Frame] | LinkLost) -> None:
        heard(batch)
        while isinstance(batch, list) and not beaten.wait(0.02):
            link.heard()

    with ScriptedBroker(script) as broker:
        link = Link(broker.settings(heartbeat=0.1), sink)
        link.connect()
        link.subscribe("/queue/a", "1")
        assert beaten.wait(PATIENCE)
        link.write(encode("SEND", [], b"still here"))
        assert heard.end() == "dev1: the broker closed the connection"


def test_a_sink_that_hangs() -> None:
    heard = Heard()

    def beat_once(peer: Peer) -> None:
        peer.subscribed("100,100")
        peer.send(message(1))
        peer.wait_for_close()

    def sink(batch: list[Frame] | LinkLost) -> None:
        heard(batch)
        with contextlib.suppress(LinkLost):
            while isinstance(batch, list) and not heard.ended.wait(0.02):
                link.write(b"\n")

    with ScriptedBroker(beat_once) as broker:
        link = Link(broker.settings(heartbeat=0.1), sink)
        link.connect()
        link.subscribe("/queue/a", "1")
        assert heard.end() == "dev1: no heart-beat from the broker"
