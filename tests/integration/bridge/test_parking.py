"""Parking and replay while instances die, stop, come and go, and while everything restarts."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scene import PARKED, PATIENCE, Scene, assert_exact, assert_nothing_lost, parked_for

from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.device import Device
from kalinka_jms.lab.instances import COMMAND, Instance, Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until

pytestmark = pytest.mark.lab

Start = Callable[..., Instances]


@pytest.fixture
def start(lab: Lab, tmp_path: Path) -> Iterator[Start]:
    """Starts a registry and so many instances of sub, with these lines in its table [sub]."""
    made: list[Instances] = []

    def start(subs: int = 1, *lines: str) -> Instances:
        config = tmp_path / f"kalinka-{len(made)}.toml"
        config.write_text(lab.config().replace("[sub]\n", "\n".join(["[sub]", *lines, ""])))
        made.append(instances := Instances(config, tmp_path / f"logs-{len(made)}"))
        instances.start("registry")
        instances.start("sub", subs)
        instances.wait_ready()
        return instances

    yield start
    for instances in made:
        instances.kill(instances.all)


def test_an_instance_is_killed_while_it_parks(scene: Scene, start: Start) -> None:
    """What it had not committed is parked by the next one, once: nothing of a transaction is seen before all is."""
    instances, back_end, away = start(), scene.back_end(), scene.device("away")
    for _ in range(2):
        before = len(parked_for(back_end, away))
        _send(back_end, away, 4000)
        assert wait_until(lambda before=before: len(parked_for(back_end, away)) > before, PATIENCE)
        _killed(instances)
    _wait_parked(back_end, away, 8000)
    away.join(scene.brokers[0])
    assert_exact(scene.settle(), sent=8000)


def test_an_instance_is_killed_while_it_replays(scene: Scene, start: Start) -> None:
    instances, back_end, away = start(), scene.back_end(), scene.device("away")
    _send(back_end, away, 6000)
    _wait_parked(back_end, away, 6000)
    away.join(scene.brokers[1])
    for received in (200, 1500):
        assert wait_until(lambda received=received: len(away.received) > received, PATIENCE)
        _killed(instances)
        _send(back_end, away, 100)
    assert_nothing_lost(scene.settle())
    assert wait_until(lambda: not _waiting(back_end, away), PATIENCE), "every tombstone"


def test_a_zombie_parks_and_commits_nothing(scene: Scene, start: Start) -> None:
    """Both instances in turn stand still until the other one has their partitions, and wake up in the midst of it."""
    instances, back_end = start(2), scene.back_end()
    devices = [scene.device(f"away{number}") for number in range(12)]  # of partitions of both
    for zombie in instances.of("sub"):
        for device in devices:
            _send(back_end, device, 100)
        zombie.signal(signal.SIGSTOP)
        for device in devices:
            _send(back_end, device, 100)
        everything = scene.ledger.sends
        assert wait_until(lambda total=everything: _parked(back_end, devices) >= total, PATIENCE)
        zombie.signal(signal.SIGCONT)
        for device in devices:
            _send(back_end, device, 50)
    everything = scene.ledger.sends
    assert wait_until(lambda: _parked(back_end, devices) >= everything, PATIENCE)
    assert _parked(back_end, devices) == everything, "nothing was parked twice"
    for number, device in enumerate(devices):
        device.join(scene.brokers[number % 3])
    assert_exact(scene.settle(), sent=everything)


def test_instances_join_and_leave_while_one_replays(scene: Scene, start: Start) -> None:
    instances, back_end = start(), scene.back_end()
    devices = [scene.device(f"away{number}") for number in range(6)]
    for device in devices:
        _send(back_end, device, 1500)
    assert wait_until(lambda: _parked(back_end, devices) >= 9000, PATIENCE)
    for number, device in enumerate(devices):
        device.join(scene.brokers[number % 3])
    assert wait_until(lambda: sum(len(device.received) for device in devices) > 500, PATIENCE)
    (second,) = instances.start("sub")
    for device in devices:
        _send(back_end, device, 100)
    second.wait_ready(120)
    assert second.stop() == 0
    assert_exact(scene.settle(), sent=9600)


def test_instances_with_other_routes_take_over_one_by_one(scene: Scene, lab: Lab, start: Start, tmp_path: Path) -> None:
    """The old file knows one downlink topic, the new one both. A partition waits until its topics come together."""
    old = start(2)
    whole = old.config.read_text()
    assert [one.stop() for one in old.of("sub")] == [0, 0]
    head, *routes = whole.split("[[routes.down]]")
    fewer = tmp_path / "fewer.toml"
    fewer.write_text(head + "[[routes.down]]" + routes[1])  # the back end's only
    first = Instances(fewer, tmp_path / "fewer")
    first.start("sub", 2)
    first.wait_ready()
    sender, back_end, away, present = (
        scene.device("beast", 0),
        scene.back_end(),
        scene.device("away"),
        scene.device("here", 1),
    )
    try:
        for leaver in first.of("sub"):
            for device in (away, present):
                _send(back_end, device, 100)
            old.start("sub")
            old.of("sub")[-1].wait_ready(120)
            for device in (away, present):
                _send(back_end, device, 100)
                for _ in range(20):
                    _between(scene, back_end, sender, device)
            assert leaver.stop() == 0
        assert wait_until(lambda: len(parked_for(back_end, away)) >= 440, PATIENCE)
        away.join(scene.brokers[2])
        assert_exact(scene.settle())
    finally:
        first.kill(first.all)


def test_everything_restarts_with_a_backlog(scene: Scene, breakable: Lab, start: Start) -> None:
    """Kalinka, brokers, Kafka and ZooKeeper; then the device listens, and new records come."""
    instances, back_end, away = start(), scene.back_end(), scene.device("away")
    _send(back_end, away, 500)
    _wait_parked(back_end, away, 500)
    assert set(instances.stop().values()) == {0}
    breakable.down()
    breakable.up()
    instances.start("registry")
    instances.start("sub")
    instances.wait_ready()
    away.join(scene.brokers[1])
    _send(back_end, away, 100)
    assert_exact(scene.settle(), sent=600)


def test_a_device_is_replayed_to_when_its_broker_is_back(scene: Scene, breakable: Lab, start: Start) -> None:
    start()
    back_end, device = scene.back_end(), scene.device("here", 2)
    _send(back_end, device, 50)
    assert wait_until(lambda: len(device.received) == 50, PATIENCE)
    breakable.kill(["dev3.activemq"])
    before = len(parked_for(back_end, device))
    _send(back_end, device, 200)
    assert wait_until(lambda: len(parked_for(back_end, device)) >= before + 200, PATIENCE)
    breakable.up()
    device.join(scene.brokers[2])
    assert_nothing_lost(scene.settle())


def test_a_device_is_replayed_to_when_zookeeper_is_back(scene: Scene, breakable: Lab, start: Start) -> None:
    """It came while nobody could say so."""
    start(1, "ack_timeout = 2.0")
    back_end, device = scene.back_end(), scene.device("away")
    _send(back_end, device, 100)
    _wait_parked(back_end, device, 100)
    breakable.pause(["dev1.zookeeper"])
    device.join(scene.brokers[0])
    _send(back_end, device, 100)
    _wait_parked(back_end, device, 200)
    breakable.resume(["dev1.zookeeper"])
    assert_exact(scene.settle(), sent=200)


def test_what_is_parked_expires_whoever_dies_meanwhile(scene: Scene, start: Start) -> None:
    """Nothing comes late: the tombstones are written by whoever has the partition then."""
    instances, back_end, away = start(1, "ttl = 20.0", "max_parked = 300"), scene.back_end(), scene.device("away")
    _send(back_end, away, 1000)
    _wait_parked(back_end, away, 1000)
    _killed(instances)
    assert wait_until(lambda: len(_waiting(back_end, away)) <= 300, PATIENCE)
    newest = [record.key for record in parked_for(back_end, away)][-300:]
    assert _waiting(back_end, away) <= set(newest), "the newest state survives"
    _killed(instances)
    assert wait_until(lambda: not _waiting(back_end, away), PATIENCE)
    away.join(scene.brokers[0])
    _send(back_end, away, 10)
    assert wait_until(lambda: len(away.received) == 10, PATIENCE)


def _killed(instances: Instances) -> Instance:
    """The oldest sub is killed, and another one starts."""
    instances.of("sub")[0].kill()
    (new,) = instances.start("sub")
    new.wait_ready(120)
    return new


def _between(scene: Scene, back_end: BackEnd, sender: Device, device: Device) -> None:
    """A record as pub writes it for a message from one device to another."""
    payload = scene.ledger.send(sender.name, device.name, "kafka", time.time_ns())
    source = [("kalinka.source", sender.name.encode())]
    back_end.produce("0.mqtt.mqtt", device.name.encode(), payload.encode(256), headers=source, payload=payload)


def _send(back_end: BackEnd, device: Device, count: int) -> None:
    for _ in range(count):
        back_end.send(device.name, 256)
    back_end.flush()


def _wait_parked(back_end: BackEnd, device: Device, count: int) -> None:
    assert wait_until(lambda: len(parked_for(back_end, device)) >= count, PATIENCE), len(parked_for(back_end, device))
    assert len(parked_for(back_end, device)) == count


def _parked(back_end: BackEnd, devices: list[Device]) -> int:
    """Records parked for these devices, ever."""
    names = {device.name.encode() for device in devices}
    keys = ((r.key or b"").partition(b"/")[0] for r in back_end.read(PARKED) if r.value is not None)
    return sum(count for name, count in Counter(keys).items() if name in names)


def _waiting(back_end: BackEnd, device: Device) -> set[bytes]:
    """The keys of what is parked for it still."""
    found: dict[bytes, bool] = {}
    for record in back_end.read(PARKED):
        if (record.key or b"").startswith(device.name.encode()):
            found[record.key or b""] = record.value is not None
    return {key for key, there in found.items() if there}


def test_what_is_dropped_while_it_is_replayed_is_gone_or_delivered(scene: Scene, lab: Lab, start: Start) -> None:
    """Nothing of it stays, and nothing comes later; what is parked after it is not meant."""
    instances, back_end = start(), scene.back_end()
    away, other, coming = scene.device("away"), scene.device("other"), scene.device("coming")
    for device, count in ((away, 300), (other, 100), (coming, 5000)):
        _send(back_end, device, count)
        _wait_parked(back_end, device, count)
    coming.join(scene.brokers[0])
    assert wait_until(lambda: len(coming.received) > 100, PATIENCE)
    pattern = f"*ing-{scene.ledger.run}"  # coming only
    told = [_command(lab, "drop", "--match", name, "--yes", "--json") for name in (away.name, pattern)]
    assert [one["left"] for one in told] == [0, 0] and told[0]["records"] == 300
    assert not _waiting(back_end, away) and not _waiting(back_end, coming)
    assert len(_waiting(back_end, other)) == 100
    seen = len(coming.received)
    for device in (away, coming):
        _send(back_end, device, 20)
    for device in (away, other):
        device.join(scene.brokers[1])
    assert wait_until(lambda: [len(away.received), len(other.received)] == [20, 100], PATIENCE)
    assert wait_until(lambda: len(coming.received) == seen + 20, PATIENCE), (seen, len(coming.received))
    assert instances.stop()
    (asked,) = [_command(lab, "drop", "--match", "nobody-*", "--yes", "--json")]
    assert asked == {"records": 0, "devices": [], "left": 0}


def _command(lab: Lab, *words: str) -> dict[str, Any]:
    command = [*COMMAND, "parked", *words, "--config", str(lab.config_path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found
