"""One broker as `sub` writes to it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest
from downlink import settings

from kalinka_jms.errors import LinkLost
from kalinka_jms.sub import outlet as module
from kalinka_jms.sub.outlet import LinkDown, LinkUp, Outlet, Proofs
from kalinka_jms.sub.sends import CanaryReport, Echo, Report, Send, encode, send_prefix
from kalinka_jms.sub.worker import Failed
from kalinka_jms.testing import FakeBrokers

TOPICS = ("mqtt.*.mqtt.*.sub", "sparkcluster.mqtt.*.sub")
CANARY = [(0, send_prefix("mqtt.kalinka-canary.mqtt.kalinka-canary.sub", 0))]


class Scene:
    """An outlet upon a fake broker; it counts only what happens, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.brokers = FakeBrokers("b1")
        self.broker = self.brokers["b1"]
        monkeypatch.setattr(module, "Link", self.brokers)
        monkeypatch.setattr(module, "RETRY_FIRST", 0.01)
        self.mailbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.outlet = Outlet(settings().brokers[0], TOPICS, self.mailbox.put)

    def next(self) -> Any:
        return self.mailbox.get(timeout=10)

    def send(self, identity: str, number: int, *devices: str) -> None:
        sends = [Send(send_prefix(f"mqtt.s.mqtt.{device}.sub", 1), device.encode()) for device in devices]
        self.outlet.write(identity, encode(identity, number, sends, CANARY))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    yield scene
    scene.outlet.stop()
    if scene.outlet._thread.ident is not None:
        scene.outlet.join(10)
        assert not scene.outlet._thread.is_alive()


def evidence(scene: Scene, number: int) -> list[Any]:
    """What comes back until the echo of a transaction."""
    found: list[Any] = []
    while Echo(number) not in found:
        event = scene.next()
        assert isinstance(event, Proofs)
        found += event.evidence
    return found


def test_what_is_written_comes_back_as_evidence(scene: Scene) -> None:
    device = scene.broker.device("d1")
    scene.outlet.start()
    up = scene.next()
    assert up == LinkUp("b1", up.identity)
    scene.send(up.identity, 1, "away", "d1")
    assert evidence(scene, 1) == [Report(1, 0), CanaryReport(1, 0), Echo(1)]
    assert [message.payload for message in device.received] == [b"d1"]


def test_a_lost_link_is_told_and_made_again_with_another_identity(scene: Scene) -> None:
    scene.outlet.start()
    first = scene.next()
    scene.broker.crash()
    assert scene.next() == LinkDown("b1", first.identity, "b1: the broker closed the connection", by_broker=True)
    scene.send(first.identity, 1, "d1")
    scene.broker.restart()
    second = scene.next()
    assert isinstance(second, LinkUp) and second.identity != first.identity
    scene.send(first.identity, 2, "d1")
    scene.send(second.identity, 1, "d1")
    evidence(scene, 1)
    assert [message.body for message in scene.broker.sent].count(b"d1") == 1, "nothing for the first went out"


def test_a_link_that_is_lost_as_soon_as_it_stands_is_not_up_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is known before its beginning is told: told in that order it would count as up."""

    def brief(broker: Any, sink: Any) -> Any:
        link = scene.brokers(broker, sink)
        if len(scene.brokers.links) == 1:
            subscribe = link.subscribe

            def subscribe_and_end(*args: Any, **more: Any) -> None:
                subscribe(*args, **more)
                link.drop("at once")
                link._join()

            link.subscribe = subscribe_and_end
        return link

    monkeypatch.setattr(module, "Link", brief)
    scene.outlet.start()
    events = [scene.next() for _ in range(3)]
    assert [type(event) for event in events] == [LinkUp, LinkDown, LinkUp]
    assert events[0].identity == events[1].identity != events[2].identity


def test_dropping_names_the_connection_that_is_meant(scene: Scene) -> None:
    scene.outlet.start()
    up = scene.next()
    scene.outlet.drop("another", "not this one")
    scene.send(up.identity, 1)
    assert evidence(scene, 1)
    scene.outlet.drop(up.identity, "this one")
    assert scene.next() == LinkDown("b1", up.identity, "b1: this one")
    assert isinstance(scene.next(), LinkUp)
    scene.outlet.drop(None, "any")
    assert isinstance(scene.next(), LinkDown)


def test_a_broker_that_is_away_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.broker.crash()
    scene.outlet.start()
    scene.outlet.drop(None, "there is none")
    scene.send("nobody", 1)
    with pytest.raises(queue.Empty):
        scene.mailbox.get(timeout=0.2)
    assert [entry.message for entry in caplog.records] == ["cannot connect"]
    scene.broker.restart()
    assert isinstance(scene.next(), LinkUp)


def test_a_link_that_is_lost_while_it_is_written_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.outlet.start()
    up = scene.next()
    link = scene.brokers.links[0]

    def write(data: bytes) -> None:
        raise LinkLost("b1: cannot send")

    monkeypatch.setattr(link, "write", write)
    scene.send(up.identity, 1, "d1")
    assert scene.next() == LinkDown("b1", up.identity, "b1: cannot send")


def test_stopping_leaves_in_order(scene: Scene) -> None:
    scene.outlet.start()
    up = scene.next()
    scene.outlet.stop()
    assert scene.next() == LinkDown("b1", up.identity, "b1: disconnected")


def test_a_thread_that_fails_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("broken")

    monkeypatch.setattr(module, "Link", broken)
    scene.outlet.start()
    failed = scene.next()
    assert isinstance(failed, Failed) and failed.thread == "sub-b1"
