"""The ledger of real instances on real servers: it balances at every scrape, whatever breaks meanwhile."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scene import Scene, assert_nothing_lost

from kalinka_jms.lab.demo import SERVICES
from kalinka_jms.lab.instances import COMMAND, METRICS_ANYWHERE, Instance, Instances
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.identity import check, total
from kalinka_jms.metrics.metric import Metric

pytestmark = pytest.mark.lab

RATE = 25.0  # rounds a second
PATIENCE = 60.0


@pytest.fixture
def measured(breakable: Lab, tmp_path: Path) -> Iterator[Instances]:
    """Two instances of each service that serve their metrics."""
    with Instances(breakable.config_path, tmp_path, options=METRICS_ANYWHERE) as instances:
        for service in SERVICES:
            instances.start(service, 2)
        instances.wait_ready()
        yield instances


class Scraper:
    """Scrapes every instance that runs, again and again, and keeps what is wrong."""

    def __init__(self, instances: Instances) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._instances = instances
        self._last: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether nothing has ended it."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for instance in list(self._instances.all):
                text = scrape(instance)
                if text:
                    self.counts[instance.name] += 1
                    found = check(text, self._last.get(instance.name, ""))
                    self.wrong += [f"{instance.name}: {fault}" for fault in found]
                    self._last[instance.name] = text


def scrape(instance: Instance) -> str:
    """What an instance answers; empty where it does not run (any more)."""
    if not instance.running or not instance.metrics:
        return ""
    try:
        with urllib.request.urlopen(instance.metrics, timeout=PATIENCE) as answer:
            return str(answer.read().decode())
    except OSError:
        if wait_until(lambda: not instance.running, 10.0):
            return ""  # killed meanwhile
        raise


def told(instance: Instance, path: str) -> tuple[int, Any]:
    """Status and document of /healthz or /readyz."""
    try:
        with urllib.request.urlopen(instance.metrics.replace("/metrics", path), timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def summed(instances: Instances, service: str, metric: Metric, **labels: str) -> float:
    """A metric of all running instances of a service."""
    return sum(total(scrape(instance), metric, **labels) for instance in instances.of(service))


def test_the_ledger_balances_at_every_scrape_while_everything_breaks(
    scene: Scene, measured: Instances, breakable: Lab
) -> None:
    """Processes, brokers and Kafka die or stand still, a device moves: no scrape shows a record too many or too few."""
    devices = scene.trio(0, 1, 2)
    traffic = scene.traffic(devices, scene.back_end())
    with Scraper(measured) as scraper:
        traffic.start(RATE)
        scene.let_pass(traffic, messages=400)
        for service in SERVICES:
            measured.of(service)[0].kill()
            scene.let_pass(traffic, messages=200)
            traffic.move(devices[0], scene.brokers[(1, 2, 0)[SERVICES.index(service)]], backlog=30)
            measured.start(service)
        for name in ("dev1.kafka", "dev2.activemq", "dev1.zookeeper"):
            breakable.pause([name])
            assert not wait_until(lambda: bool(scraper.wrong), 6)
            breakable.resume([name])
        measured.wait_ready()
        scene.let_pass(traffic, messages=400)
        traffic.stop()
        traffic.flush()
        assert_nothing_lost(scene.settle())
        running = [instance for instance in measured.all if instance.running]
        assert wait_until(lambda: not summed(measured, "sub", catalogue.DOWN_IN_FLIGHT), PATIENCE)
        assert scraper.alive
    assert scraper.wrong == []
    assert min(scraper.counts[instance.name] for instance in running) > 10, scraper.counts
    assert summed(measured, "sub", catalogue.DOWN, outcome="delivered") > 0
    for text in map(scrape, measured.of("pub")):
        assert total(text, catalogue.UP_SECONDS) == total(text, catalogue.UP, outcome="confirmed")
    assert set(measured.stop().values()) == {0}


def active(instances: Instances) -> dict[str, float]:
    """Broker → how many instances of `pub` are active on its queue of what devices send to devices."""
    queue = "kalinka.mqtt.pub"
    names = ("dev1", "dev2", "dev3")
    return {name: summed(instances, "pub", catalogue.UP_ACTIVE, broker=name, queue=queue) for name in names}


def test_what_is_where_shows_in_the_gauges(scene: Scene, measured: Instances) -> None:
    """One of two instances is active on a queue, one watches a broker; an absent device's records are parked."""
    others, their_devices = (summed(measured, "sub", metric) for metric in (catalogue.PARKED, catalogue.PARKED_DEVICES))
    devices, back_end = scene.trio(0, 1, 2), scene.back_end()
    traffic = scene.traffic(devices, back_end)
    traffic.burst(10)
    absent = scene.device("away")
    for _ in range(20):
        back_end.send(absent.name)
    back_end.flush()
    assert wait_until(lambda: summed(measured, "sub", catalogue.PARKED) == others + 20, PATIENCE)
    assert wait_until(lambda: summed(measured, "registry", catalogue.DEVICES) == 3, PATIENCE)
    assert wait_until(lambda: set(active(measured).values()) == {1}, PATIENCE), active(measured)
    for broker in ("dev1", "dev2", "dev3"):
        assert summed(measured, "pub", catalogue.LINK, broker=broker) == 2
        assert summed(measured, "sub", catalogue.LINK, broker=broker) == 2
        assert summed(measured, "registry", catalogue.ELECTED, broker=broker) == 1
        assert summed(measured, "registry", catalogue.SETTLED, broker=broker) == 1
    assert summed(measured, "sub", catalogue.PARTITIONS) == 6
    assert summed(measured, "sub", catalogue.PARKED_DEVICES) == their_devices + 1
    assert wait_until(lambda: summed(measured, "sub", catalogue.DOWN_LAG) == 0, PATIENCE)
    absent.join(scene.brokers[1])
    assert wait_until(lambda: summed(measured, "sub", catalogue.REPLAYED, outcome="delivered") >= 20, PATIENCE)
    assert wait_until(lambda: summed(measured, "sub", catalogue.PARKED) == others, PATIENCE)
    assert summed(measured, "sub", catalogue.DOWN_SECONDS) > 20


def test_ready_and_healthy_follow_what_happens_to_a_broker(measured: Instances, breakable: Lab) -> None:
    (pub, *_), (sub, *_) = measured.of("pub"), measured.of("sub")
    assert told(pub, "/readyz")[0] == told(sub, "/readyz")[0] == 200
    breakable.kill(["dev2.activemq"])
    assert wait_until(lambda: told(pub, "/readyz")[0] == 503, PATIENCE)
    assert told(pub, "/readyz")[1]["services"]["pub"] == {"waiting for": ["the broker dev2, or Kafka"]}
    assert told(pub, "/healthz")[0] == told(sub, "/healthz")[0] == told(sub, "/readyz")[0] == 200
    assert total(scrape(pub), catalogue.LINK, broker="dev2") == 0
    breakable.start(["dev2.activemq"])
    assert wait_until(lambda: told(pub, "/readyz")[0] == 200, PATIENCE)


def test_status_tells_how_the_installation_stands_and_who_is_away(
    scene: Scene, measured: Instances, breakable: Lab
) -> None:
    traffic = scene.traffic(scene.trio(0, 1, 2), scene.back_end())
    traffic.burst(10)
    scene.settle()
    well = status(breakable)
    assert well.returncode == 0, well.stdout + well.stderr
    document = json.loads(well.stdout)
    assert [broker["state"] for broker in document["brokers"]] == ["up"] * 3
    assert sum(broker["devices"] for broker in document["brokers"]) == 3
    assert document["kafka"]["group"]["members"] == 2 and document["findings"] == document["no_answer"] == []
    assert {topic["name"]: topic["behind"] for topic in document["kafka"]["topics"]}["0.mqtt.mqtt"] == 0
    assert len(document["instances"]) == 6 and all(one["healthy"] for one in document["instances"])
    breakable.kill(["dev2.activemq"])
    breakable.pause(["dev1.zookeeper"])
    away = status(breakable)
    assert away.returncode == 3
    document = json.loads(away.stdout)
    assert document["brokers"] is None and document["links"]["dev2"] and not document["links"]["dev1"]
    assert any("ZooKeeper" in text for text in document["no_answer"])
    assert document["kafka"]["group"]["members"] == 2


def status(lab: Lab) -> subprocess.CompletedProcess[str]:
    """The command, as a user types it."""
    command = [*COMMAND, "status", "--config", str(lab.config_path), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
