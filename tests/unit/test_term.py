"""An elected watcher's term, against a broker and ZooKeeper in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest

from kalinka_jms.config import Broker
from kalinka_jms.config.settings import DEFAULT_DOWN
from kalinka_jms.errors import RegistryError
from kalinka_jms.registry import term as term_module
from kalinka_jms.registry.entry import Entry
from kalinka_jms.registry.post import Post
from kalinka_jms.registry.presence import Presence
from kalinka_jms.registry.term import Term
from kalinka_jms.registry.writer import Writer
from kalinka_jms.registry.znodes import Znodes
from kalinka_jms.routes import Downlinks
from kalinka_jms.testing import FakeBroker, FakeBrokers
from kalinka_jms.testing.wire import Message
from kalinka_jms.testing.zookeeper import FakeClient, FakeZooKeeper

ROOT = "/kalinka/devices"
ZNODES = Znodes(ROOT)
BROKER = Broker(name="dev1", stomp="stomp://127.0.0.1:61613")


class Scene:
    """One broker, and terms of its watcher one after the other."""

    def __init__(self) -> None:
        self.brokers = FakeBrokers("dev1")
        self.broker: FakeBroker = self.brokers["dev1"]
        self.zookeeper = FakeZooKeeper()
        self.client: FakeClient = self.zookeeper.client()
        self.stopping = threading.Event()
        self.ended: list[RegistryError | None] = []
        self._elections = 0
        self.zookeeper.ensure(ZNODES.election("dev1"))

    def start(self, grace: float = 60.0, resync: float = 60.0, lost: bool = False) -> Term:
        """Win an election (or lose it again at once), and begin the term."""
        self._elections += 1
        self.fence = self.zookeeper.create(f"{ZNODES.election('dev1')}/{self._elections}", b"", self.client)
        if lost:
            self.zookeeper.delete(self.fence)
        presence = Presence(Downlinks(DEFAULT_DOWN, ("0",)))
        post = Post(BROKER, presence, grace, resync, cast(Any, self.brokers), self.stopping)
        self.term = Term(post, partial(Writer, self.client, ROOT, "dev1", self.fence))
        self.thread = threading.Thread(target=self._run, args=(self.term,), daemon=True)
        self.thread.start()
        return self.term

    def _run(self, term: Term) -> None:
        try:
            term.run()
            self.ended.append(None)
        except RegistryError as error:
            self.ended.append(error)

    def stop(self) -> None:
        self.stopping.set()
        self.term.wake()
        self.until(lambda: not self.thread.is_alive())

    def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            self.zookeeper.settle()
            time.sleep(0.002)

    def state(self) -> dict[str, Any]:
        return Writer(self.client, ROOT, "dev1", "", lambda _: None).state()

    def listening(self) -> set[str]:
        return Writer(self.client, ROOT, "dev1", "", lambda _: None).devices()

    def entry(self, device: str) -> Entry:
        with self.zookeeper.lock:
            znode = self.zookeeper.znodes.get(ZNODES.device(device))
        return Entry.decode(znode.data) if znode else Entry()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    if scene.thread.is_alive():
        scene.stop()


def test_who_listens_already_is_registered_and_then_the_broker_counts(scene: Scene) -> None:
    scene.broker.device("d")
    scene.start()
    scene.until(lambda: scene.state().get("state") == "up")
    assert scene.term.settled
    part = scene.entry("d").part("dev1")
    assert part
    assert {filter.topic for filter in part.filters} == {"mqtt.*.mqtt.d.sub", "sparkcluster.mqtt.d.sub"}


def test_what_an_earlier_watcher_left_goes(scene: Scene) -> None:
    gone, stays = scene.broker.device("gone"), scene.broker.device("stays")
    scene.start()
    scene.until(lambda: scene.listening() == {"gone", "stays"})
    scene.zookeeper.delete(scene.fence)
    scene.term.depose(RegistryError("replaced"))
    scene.until(lambda: not scene.thread.is_alive())
    gone.disconnect()
    before = scene.entry("stays")
    scene.start()
    scene.until(lambda: scene.listening() == {"stays"})
    assert scene.entry("stays") == before
    assert stays.connected


def test_comings_and_goings(scene: Scene) -> None:
    scene.start()
    scene.until(lambda: scene.term.settled)
    device = scene.broker.device("d")
    scene.until(lambda: scene.listening() == {"d"})
    device.disconnect()
    scene.until(lambda: scene.listening() == set())


def test_a_persistent_session_comes_back_without_subscribing(scene: Scene) -> None:
    scene.start()
    device = scene.broker.device("d", clean=False)
    scene.until(lambda: scene.entry("d"))
    assert {filter.qos for part in scene.entry("d").parts for filter in part.filters} == {1}
    device.disconnect()
    scene.until(lambda: not scene.entry("d"))
    device.connect()
    scene.until(lambda: scene.entry("d"))


def test_what_happened_while_the_link_was_lost_is_reconciled(scene: Scene) -> None:
    gone = scene.broker.device("gone")
    scene.broker.device("stays")
    scene.start()
    scene.until(lambda: scene.listening() == {"gone", "stays"})
    scene.brokers.links[-1].end("the broker closed the connection")
    scene.until(lambda: not scene.term.settled or len(scene.brokers.links) > 1)
    gone.disconnect()
    scene.broker.device("new")
    scene.until(lambda: scene.listening() == {"new", "stays"})
    assert scene.state()["state"] == "up"


def test_a_broker_that_stays_away_does_not_count_until_it_is_reconciled(scene: Scene) -> None:
    scene.broker.device("d")
    scene.start(grace=0.1)
    scene.until(lambda: scene.state().get("state") == "up")
    scene.broker.crash()
    scene.until(lambda: not scene.thread.is_alive())
    assert scene.ended == [None]
    assert scene.state()["state"] == "down"
    assert scene.listening() == {"d"}, "a broker that is lost costs no write for each device"
    scene.broker.restart()
    scene.broker.device("e")
    scene.start(grace=0.1)
    scene.until(lambda: scene.state().get("state") == "up")
    assert scene.listening() == {"e"}


def test_a_watcher_that_reaches_nobody_steps_aside_again_and_again(scene: Scene) -> None:
    scene.broker.crash()
    for _ in range(3):
        scene.start(grace=0.05)
        scene.until(lambda: not scene.thread.is_alive())
        assert scene.state()["state"] == "down"
    assert scene.ended == [None, None, None]


def test_an_echo_that_does_not_come_back_ends_the_link(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_module, "ECHO_TIMEOUT", 0.05)
    scene.broker.freeze()
    scene.start()
    scene.until(lambda: len(scene.brokers.links) > 1)
    assert not scene.term.settled
    scene.broker.device("d")
    scene.broker.thaw()
    scene.until(lambda: scene.term.settled)
    scene.until(lambda: scene.listening() == {"d"})


def test_it_reconciles_from_time_to_time(scene: Scene) -> None:
    missed = scene.broker.device("missed")
    scene.start(resync=0.02)
    scene.until(lambda: scene.listening() == {"missed"})
    with scene.broker.lock:  # nobody is told
        scene.broker.devices.remove(missed)
    scene.until(lambda: scene.listening() == set())
    assert len(scene.brokers.links) == 1
    assert scene.term.settled


def test_advisories_without_a_body_end_the_link(scene: Scene) -> None:
    """Somebody else subscribed with another transformation: nothing can be believed."""
    scene.broker.device("d")
    scene.start()
    scene.until(lambda: scene.listening() == {"d"})
    scene.broker.publish(Message("/topic/ActiveMQ.Advisory.Consumer.Topic.mqtt.*.mqtt.d.sub", "ID:1", (), b""))
    scene.until(lambda: len(scene.brokers.links) > 1)
    scene.until(lambda: scene.term.settled)
    assert scene.listening() == {"d"}


def test_an_advisory_that_cannot_be_read_stops_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.start()
    scene.until(lambda: scene.term.settled)
    scene.broker.publish(Message("/topic/ActiveMQ.Advisory.Consumer.Topic.mqtt.*.mqtt.d.sub", "ID:1", (), b"{"))
    scene.broker.device("d")
    scene.until(lambda: scene.listening() == {"d"})
    assert "cannot be read" in caplog.text
    assert len(scene.brokers.links) == 1


def test_who_overhears_devices_is_named_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.broker.device("all", "#")
    scene.start(resync=0.02)
    scene.until(lambda: scene.term.settled)
    scene.broker.device("d")
    scene.until(lambda: scene.listening() == {"d"})
    (record,) = [record for record in caplog.records if "does not report" in record.message]
    assert vars(record)["filter"] == ">"


def test_a_deposed_watcher_ends(scene: Scene) -> None:
    scene.start()
    scene.until(lambda: scene.term.settled)
    scene.zookeeper.delete(scene.fence)
    scene.broker.device("d")
    scene.until(lambda: not scene.thread.is_alive())
    assert isinstance(scene.ended[0], RegistryError)
    assert scene.listening() == set()
    assert scene.broker.wait(lambda: scene.brokers.links[-1]._reason != ""), "the link is left to the next"


def test_who_lost_the_office_before_the_term_began_notices_with_nothing_to_write(scene: Scene) -> None:
    """The session can be lost between the election and the moment from which its loss is listened for."""
    scene.zookeeper.ensure(ZNODES.broker("dev1"))
    scene.zookeeper.set(ZNODES.broker("dev1"), b'{"state":"up"}')
    scene.start(lost=True)
    scene.until(lambda: not scene.thread.is_alive())
    assert str(scene.ended[0]) == "no longer the watcher of dev1"
    assert not scene.brokers.links


def test_a_watcher_that_leaves_writes_what_it_knows(scene: Scene) -> None:
    scene.start()
    scene.until(lambda: scene.term.settled)
    for number in range(50):
        scene.broker.device(f"d{number}")
    scene.until(lambda: len(scene.term.roster) == 50)
    scene.stop()
    assert scene.ended == [None]
    assert len(scene.listening()) == 50
    assert scene.state() == {"state": "up", "seen": dict(scene.term.roster.seen)}


def test_the_state_that_was_left_is_taken_up(scene: Scene) -> None:
    scene.zookeeper.ensure(ZNODES.broker("dev1"))
    scene.zookeeper.set(ZNODES.broker("dev1"), b'{"state":"up","seen":{"ID:dev1-4":1000000,"odd":"x"}}')
    scene.broker.device("d")
    scene.start()
    scene.until(lambda: scene.listening() == {"d"})
    assert scene.term.roster.seen == {"ID:dev1-4": 1000000}
