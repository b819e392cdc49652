"""Who listens where, on real brokers and a real ZooKeeper."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient
from mqtt_listener import Listener
from registry_scene import PATIENCE, SESSION, Scene

from kalinka_jms.config import Secret, ZookeeperAuth
from kalinka_jms.errors import RegistryError
from kalinka_jms.lab.instances import Instance
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.registry import Election, Writer, connect
from kalinka_jms.registry.advisories import Filter
from kalinka_jms.registry.entry import Part
from kalinka_jms.registry.watch import Watch
from kalinka_jms.registry.znodes import Znodes

pytestmark = pytest.mark.lab


def test_a_device_is_known_from_its_first_subscription_to_its_last(scene: Scene) -> None:
    scene.watch(0)
    scene.await_brokers("d")
    name = scene.name("d")
    device = scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    wait_until(lambda: scene.entry("d").owners(f"sparkcluster.mqtt.{name}.sub"), PATIENCE)
    assert scene.entry("d").owners(f"mqtt.srv.mqtt.{name}.sub") == ("dev1",)
    device.unsubscribe(f"mqtt/+/mqtt/{name}/sub")
    assert wait_until(lambda: scene.entry("d").owners(f"mqtt.srv.mqtt.{name}.sub") == (), PATIENCE)
    assert scene.entry("d").owners(f"sparkcluster.mqtt.{name}.sub") == ("dev1",)
    device.unsubscribe(f"sparkcluster/mqtt/{name}/sub")
    scene.await_brokers("d")


@pytest.mark.parametrize("leave", [Listener.disconnect, Listener.cut], ids=["DISCONNECT", "closed socket"])
def test_a_device_that_leaves_is_gone(scene: Scene, leave: Callable[[Listener], None]) -> None:
    scene.watch(0)
    device = scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    leave(device)
    scene.await_brokers("d")


@pytest.mark.parametrize(
    "filter",
    ["mqtt/+/mqtt/{}/sub", "mqtt/srv/mqtt/{}/sub", "mqtt/+/mqtt/{}/#", "+/+/mqtt/{}/+", "sparkcluster/mqtt/{}/#"],
)
def test_any_filter_that_names_the_device_counts_from_beginning_to_end(scene: Scene, filter: str) -> None:
    """Live ones and replayed ones: the broker does not tell all of them on the narrower advisory topics."""
    scene.watch(0)
    filter = filter.format(scene.name("d"))
    device = scene.device("d", 0, filter)
    scene.await_brokers("d", "dev1")
    device.unsubscribe(filter)
    scene.await_brokers("d")


def test_a_persistent_session_comes_back_without_subscribing(scene: Scene) -> None:
    scene.watch(0)
    device = scene.device("d", 0, clean=False)
    scene.await_brokers("d", "dev1")
    assert {filter.qos for filter in scene.entry("d").parts[0].filters} == {1}
    device.disconnect()
    scene.await_brokers("d")
    broker = scene.lab.layout.of("activemq")[0]
    back = Listener(broker.address, broker.ports["mqtt"], scene.name("d"), clean=False)
    scene.await_brokers("d", "dev1")
    back.unsubscribe(f"mqtt/+/mqtt/{scene.name('d')}/sub", f"sparkcluster/mqtt/{scene.name('d')}/sub")
    back.disconnect()
    scene.await_brokers("d")


def test_a_persistent_session_that_is_away_is_not_replayed_as_listening(scene: Scene) -> None:
    scene.device("away", 0, clean=False).disconnect()
    scene.device("there", 0, clean=False)
    scene.watch(0)
    scene.await_brokers("there", "dev1")
    assert wait_until(lambda: scene.brokers("away") == (), PATIENCE)


def test_a_takeover_on_the_same_broker_leaves_the_device_where_it_is(scene: Scene) -> None:
    """For a moment nobody listens, between the end of the old connection and the new one's SUBSCRIBE."""
    scene.watch(0)
    scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    before = scene.entry("d").parts[0].consumers
    scene.device("d", 0)
    assert wait_until(
        lambda: scene.brokers("d") == ("dev1",) and not before & scene.entry("d").parts[0].consumers, PATIENCE
    )


def test_a_device_that_moves_is_newest_where_it_came_last(scene: Scene) -> None:
    scene.watch(0, 1, 2)
    first = scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    second = scene.device("d", 1)  # the first connection is half-open, as far as dev1 knows
    scene.await_brokers("d", "dev2", "dev1")
    third = scene.device("d", 2)
    scene.await_brokers("d", "dev3", "dev2", "dev1")
    first.cut()
    scene.await_brokers("d", "dev3", "dev2")
    third.cut()
    scene.await_brokers("d", "dev2")
    second.disconnect()
    scene.await_brokers("d")


def test_who_listens_before_the_watcher_comes_is_found(scene: Scene) -> None:
    for number in range(100):
        scene.device(f"d{number}", 0)
    scene.watch(0)
    for number in range(100):
        scene.await_brokers(f"d{number}", "dev1")


def test_what_nobody_watched_is_reconciled_by_the_next_watcher(scene: Scene) -> None:
    (watch,) = scene.watch(0)
    stays, gone = scene.device("stays", 0), scene.device("gone", 0)
    for name in ("stays", "gone"):
        scene.await_brokers(name, "dev1")
    before = scene.entry("stays")
    watch.stop()
    watch.join()
    gone.disconnect()
    new = scene.device("new", 0)
    scene.watch(0)
    scene.await_brokers("gone")
    scene.await_brokers("new", "dev1")
    assert scene.entry("stays") == before
    stays.disconnect()
    new.disconnect()


def test_a_client_on_everything_is_nobody(scene: Scene) -> None:
    (watch,) = scene.watch(0)
    broker = scene.lab.layout.of("activemq")[0]
    eavesdropper = Listener(broker.address, broker.ports["mqtt"], scene.name("all"))
    eavesdropper.subscribe("#", "mqtt/+/mqtt/+/sub")
    assert wait_until(lambda: {filter.topic for filter in watch.eavesdroppers} == {">", "mqtt.*.mqtt.*.sub"}, PATIENCE)
    scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    eavesdropper.disconnect()
    assert wait_until(lambda: not watch.eavesdroppers, PATIENCE)


def test_when_a_watcher_stops_the_next_takes_over_at_once(scene: Scene) -> None:
    """No session has to run out: that would take longer than this allows."""
    (first,) = scene.watch(0)
    second = Watch(scene.broker(0), scene.settings, scene._client())
    second.start()
    scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    assert not second.settled
    first.stop()
    first.join()
    assert wait_until(lambda: second.settled, PATIENCE)
    second.stop()
    second.join(PATIENCE)


def test_a_killed_watcher_is_replaced_and_nothing_is_missed(scene: Scene) -> None:
    instances = scene.process()
    (first,) = instances.start("registry")
    stays, moves = scene.device("stays", 0), scene.device("moves", 0)
    for name in ("stays", "moves"):
        scene.await_brokers(name, "dev1")
    scene.changes.clear()
    (second,) = instances.start("registry")
    second.wait_ready()
    first.kill()
    moves.disconnect()
    scene.device("moves", 1)
    scene.device("new", 2)
    scene.await_brokers("moves", "dev2")
    scene.await_brokers("new", "dev3")
    scene.await_brokers("stays", "dev1")
    assert (scene.name("stays"), ()) not in scene.changes
    stays.disconnect()
    scene.await_brokers("stays")


def test_a_paused_watcher_that_wakes_up_writes_nothing(scene: Scene) -> None:
    instances = scene.process()
    (old,) = instances.start("registry")
    device = scene.device("d", 0)
    scene.await_brokers("d", "dev1")
    old.signal(signal.SIGSTOP)
    try:
        device.disconnect()  # waits, as an advisory, in the socket of the one that sleeps
        (new,) = instances.start("registry")
        scene.await_brokers("d")  # only another watcher can have written that
        scene.device("d", 0)
        scene.await_brokers("d", "dev1")
        scene.changes.clear()
    finally:
        old.signal(signal.SIGCONT)
    assert wait_until(lambda: "not watching" in old.log.read_text(), PATIENCE)
    new_at_work(scene, new)
    assert (scene.name("d"), ()) not in scene.changes, "the one that slept took the device away"
    assert old.stop() == 0


def new_at_work(scene: Scene, new: Instance) -> None:
    """Every broker is watched (by the one instance that may), and it still writes."""
    assert new.running
    for place in range(3):
        scene.device(f"witness-{place}", place)
        scene.await_brokers(f"witness-{place}", scene.broker(place).name)


def test_who_is_not_elected_any_more_writes_nothing(scene: Scene) -> None:
    """The fence itself, in a session that lives: the transaction fails at its check, and nothing of it happens."""
    failures: list[RegistryError] = []
    election = Election(scene.client, Znodes(scene.root).election("dev1"))
    fence = election.win()
    assert fence is not None
    writer = Writer(scene.client, scene.root, "dev1", fence, failures.append)
    writer.prepare()
    part = Part("dev1", (Filter("f", "ID:dev1:1:-1:1"),))
    writer.apply(scene.name("d"), part, live=True)
    assert writer.flush(PATIENCE)
    scene.client.gather([lambda kazoo: kazoo.delete_async(fence)])
    writer.apply(scene.name("d"), None, live=False)
    writer.apply(scene.name("e"), part, live=True)
    with pytest.raises(RegistryError, match="no longer the watcher"):
        writer.flush(PATIENCE)
    assert scene.stored("d").brokers == ("dev1",)
    assert not scene.stored("e")
    assert len(failures) == 1
    election.resign()


def test_a_watcher_that_loses_its_session_stands_for_election_again(scene: Scene) -> None:
    (watch,) = scene.watch(0)
    scene.device("before", 0)
    scene.await_brokers("before", "dev1")
    scene.changes.clear()
    expire(scene, watch)
    assert wait_until(lambda: not watch.settled, PATIENCE)
    scene.device("after", 0)
    scene.await_brokers("after", "dev1")
    scene.await_brokers("before", "dev1")
    assert (scene.name("before"), ()) not in scene.changes


def expire(scene: Scene, watch: Watch) -> None:
    """End the watcher's ZooKeeper session from another connection, as the kazoo harness does."""
    kazoo = watch._client.kazoo
    thief = KazooClient(scene.settings.zookeeper.hosts, client_id=kazoo.client_id, timeout=SESSION)
    thief.start()
    thief.stop()


def test_what_was_written_with_a_login_is_for_that_login_only(scene: Scene) -> None:
    auth = ZookeeperAuth(user="kalinka", password=Secret(plain=scene.run))
    settings = scene.settings.zookeeper.model_copy(update={"auth": auth, "root": f"{scene.root}-private/devices"})
    client = connect(settings)
    try:
        client.gather([lambda kazoo: kazoo.ensure_path_async(settings.root)])
        with pytest.raises(RegistryError, match="NoAuth"):
            scene.client.gather([lambda kazoo: kazoo.get_async(settings.root)])
    finally:
        client.stop()


def test_a_broker_that_restarts_is_reconciled(breakable_scene: Scene) -> None:
    scene = breakable_scene
    scene.watch(0, 1)
    scene.device("d", 0)
    scene.device("there too", 1)
    scene.await_brokers("d", "dev1")
    scene.await_brokers("there too", "dev2")
    scene.lab.kill(["dev1.activemq"])
    scene.await_brokers("d")  # its broker is away, and does not count after a while
    assert scene.stored("d").brokers == ("dev1",), "nothing was deleted for that"
    scene.lab.start(["dev1.activemq"])
    scene.device("new", 0)
    scene.await_brokers("new", "dev1")
    scene.await_brokers("d")
    assert wait_until(lambda: not scene.stored("d"), PATIENCE)
    scene.await_brokers("there too", "dev2")


def test_while_zookeeper_is_away_what_is_known_goes_on(breakable_scene: Scene) -> None:
    scene = breakable_scene
    scene.watch(0)
    stays, leaves = scene.device("stays", 0), scene.device("leaves", 0)
    for name in ("stays", "leaves"):
        scene.await_brokers(name, "dev1")
    scene.changes.clear()
    scene.lab.pause(["dev1.zookeeper"])
    assert wait_until(lambda: not scene.owners.available, PATIENCE)
    for number in range(1000):  # asking must not block: more than kazoo takes before it does
        assert scene.brokers(f"unknown-{number}") is None
    assert scene.brokers("stays") == ("dev1",)
    leaves.disconnect()
    scene.lab.resume(["dev1.zookeeper"])
    scene.await_brokers("leaves")
    scene.await_brokers("unknown-999")
    assert scene.brokers("stays") == ("dev1",)
    assert (scene.name("stays"), ()) not in scene.changes
    stays.disconnect()
    scene.await_brokers("stays")
