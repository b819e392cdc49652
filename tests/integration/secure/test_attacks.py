"""Attacks that must fail. What must not happen is looked for behind something that does: a message sent after it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from intruder import Intruder
from safe_site import BACK_END, DEVICES, KALINKA, Site

from kalinka_jms.checks.broker import check
from kalinka_jms.config.secret import Secret
from kalinka_jms.config.settings import Broker
from kalinka_jms.errors import LinkError, LinkRefused
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.instances import Instances
from kalinka_jms.lab.ledger import Ledger
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.stomp.frames import Frame, encode
from kalinka_jms.stomp.link import Link

pytestmark = pytest.mark.lab

PATIENCE = 60.0
BEAST, SPY, VICTIM = DEVICES


class Wire:
    """A STOMP link of Kalinka's own user."""

    def __init__(self, broker: Broker, *queues: str) -> None:
        self._batches: queue.SimpleQueue[list[Frame] | LinkError] = queue.SimpleQueue()
        self._link = Link(broker, self._batches.put)
        self._link.connect()
        for number, name in enumerate(queues, 1):
            self._link.subscribe(f"/queue/{name}", str(number), ack="auto")
        self.disconnect = self._link.disconnect

    def listen(self, *topics: str) -> None:
        """In one subscription, so that what comes keeps its order."""
        self._link.subscribe(",".join(f"/topic/{topic}" for topic in topics), "topics")

    def send(self, topic: str, body: bytes, **headers: str) -> None:
        """A message at QoS 1."""
        more = [("ActiveMQ.MQTT.QoS", "1"), *headers.items()]
        self._link.write(encode("SEND", [("destination", f"/topic/{topic}"), *more], body))

    def until(self, body: bytes) -> list[bytes]:
        """Everything received up to this body."""
        found: list[bytes] = []
        while body not in found:
            batch = self._batches.get(timeout=PATIENCE)
            assert isinstance(batch, list), batch
            found += [frame.body for frame in batch]
        return found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def wire(site: Site, stack: ExitStack) -> Wire:
    wire = Wire(site.settings().brokers[0], "kalinka.mqtt.pub", "kalinka.sparkcluster.pub")
    stack.callback(wire.disconnect)
    return wire


def client(site: Site, stack: ExitStack, user: str, **more: object) -> Intruder:
    given: dict[str, object] = {"password": site.password, "id": user} | more
    return stack.enter_context(Intruder(site.brokers()[0], user, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("login", "passcode"), [(None, None), (KALINKA, Secret(plain="wrong")), (KALINKA, None), ("nobody", None)]
)
def test_stomp_without_the_right_login_is_refused(site: Site, login: str | None, passcode: Secret | None) -> None:
    broker = site.settings().brokers[0].model_copy(update={"login": login, "passcode": passcode})
    with pytest.raises(LinkRefused):
        Link(broker, lambda _: None).connect()


def test_a_device_without_its_password_is_refused(site: Site, stack: ExitStack) -> None:
    assert client(site, stack, BEAST, password="wrong").refused
    assert client(site, stack, BEAST, password=None).refused
    assert client(site, stack, "nobody").refused
    assert not client(site, stack, BEAST).refused


@pytest.mark.parametrize(
    "topic",
    [
        f"mqtt/{VICTIM}/mqtt/{SPY}/pub",
        f"mqtt/{VICTIM}/sparkcluster/pub",
        f"mqtt/{BEAST}/mqtt/{SPY}/pub,mqtt/{VICTIM}/mqtt/{SPY}/pub",
        f"mqtt/{BEAST}/mqtt/{SPY}/pub,queue:..kalinka.mqtt.pub",
    ],
)
def test_a_device_that_publishes_as_another_reaches_nobody(
    site: Site, stack: ExitStack, wire: Wire, topic: str
) -> None:
    beast = client(site, stack, BEAST)
    beast.publish(topic, b"forged")
    beast.publish(f"mqtt/{BEAST}/mqtt/{SPY}/pub", b"honest")
    assert wire.until(b"honest") == [b"honest"]


@pytest.mark.parametrize(
    "topic", [f"mqtt/{BEAST}/mqtt/{VICTIM}/sub", "ActiveMQ/Advisory/NoConsumer/Topic/x", "kalinka/echo/x"]
)
def test_a_device_reaches_no_other_but_through_the_bridge(site: Site, stack: ExitStack, wire: Wire, topic: str) -> None:
    wire.listen(topic.replace("/", "."), "kalinka.mark")
    client(site, stack, BEAST).publish(topic, b"forged")
    wire.send("kalinka.mark", b"marker")
    assert wire.until(b"marker") == [b"marker"]


@pytest.mark.parametrize(
    "topics", [f"mqtt/+/mqtt/{VICTIM}/sub", "mqtt/+/mqtt/+/sub", "mqtt/#", "#", f"sparkcluster/mqtt/{VICTIM}/sub"]
)
def test_a_device_reads_nothing_that_is_for_another(site: Site, stack: ExitStack, wire: Wire, topics: str) -> None:
    victim, spy = client(site, stack, VICTIM), client(site, stack, SPY)
    assert victim.subscribe(f"mqtt/+/mqtt/{VICTIM}/sub")
    assert spy.subscribe(f"mqtt/+/mqtt/{SPY}/sub")
    spy.subscribe(topics)  # a wide one is granted; what counts is what comes
    new = f"mqtt.{BEAST}{len(topics)}.mqtt.{VICTIM}.sub"  # a topic that is made only now, as well
    for topic in (f"mqtt.{BEAST}.mqtt.{VICTIM}.sub", new, f"sparkcluster.mqtt.{VICTIM}.sub"):
        wire.send(topic, b"secret")
    wire.send(f"mqtt.{BEAST}.mqtt.{SPY}.sub", b"marker")
    assert wait_until(lambda: any(body == b"marker" for _, body in spy.received), PATIENCE)
    assert wait_until(lambda: len(victim.received) == 2, PATIENCE)
    assert {body for _, body in spy.received} == {b"marker"}


def test_who_takes_another_ones_client_id_does_not_get_its_messages(site: Site, stack: ExitStack, wire: Wire) -> None:
    with Intruder(site.brokers()[0], VICTIM, site.password, VICTIM, clean=False) as victim:
        assert victim.subscribe(f"mqtt/+/mqtt/{VICTIM}/sub")
    wire.send(f"mqtt.{BEAST}.mqtt.{VICTIM}.sub", b"secret", persistent="true")
    with Intruder(site.brokers()[0], SPY, site.password, VICTIM, clean=False) as thief:
        assert thief.subscribe(f"mqtt/+/mqtt/{SPY}/sub")
        wire.send(f"mqtt.{BEAST}.mqtt.{SPY}.sub", b"marker", persistent="true")
        assert wait_until(lambda: any(body == b"marker" for _, body in thief.received), PATIENCE)
        assert {body for _, body in thief.received} == {b"marker"}
    with Intruder(site.brokers()[0], VICTIM, site.password, VICTIM, clean=False) as victim:
        assert wait_until(lambda: any(body == b"secret" for _, body in victim.received), PATIENCE)
    with Intruder(site.brokers()[0], VICTIM, site.password, VICTIM):
        pass  # a clean session ends the persistent one


def test_a_forged_source_is_a_dead_letter_and_the_stream_goes_on(site: Site, stack: ExitStack, tmp_path: Path) -> None:
    """Forged by a user who may write there; `config check` needs such a one."""
    back_end = BackEnd(
        site.layout.bootstrap, Ledger(), topics=("0.mqtt.mqtt", "kalinka.dead"), login=site.kafka("admin")
    )
    stack.callback(back_end.close)
    back_end.start()
    instances = stack.enter_context(Instances(site.config, tmp_path))
    instances.start("pub")
    instances.wait_ready()
    forger = Wire(site.settings().brokers[0])
    stack.callback(forger.disconnect)
    topic = f"mqtt.{BEAST}.mqtt.{SPY}.pub"
    forger.send(topic, b"forged", JMSXUserID=BEAST)
    client(site, stack, BEAST).publish(topic.replace(".", "/"), b"honest")
    honest = back_end.wait_for("0.mqtt.mqtt", lambda record: record.value == b"honest", PATIENCE)
    assert honest.header("kalinka.source") == BEAST.encode()
    dead = back_end.wait_for("kalinka.dead", lambda record: record.value == b"forged", PATIENCE)
    reason = f"the source '{BEAST}' is not its sender, the user '{KALINKA}'"
    assert dead.header("kalinka.reason") == reason.encode()
    assert [record.value for record in back_end.read("0.mqtt.mqtt")] == [b"honest"]


def test_a_new_device_needs_no_restart_and_may_be_shut_out_again(site: Site, stack: ExitStack, wire: Wire) -> None:
    assert client(site, stack, "storm").refused
    try:
        site.users("dev1", [*DEVICES, "storm"])
        site.rights("dev1", [*DEVICES, "storm"])
        assert wait_until(lambda: listens(site, "storm"), PATIENCE)
        storm = client(site, stack, "storm")
        storm.publish("mqtt/storm/sparkcluster/pub", b"welcome")
        assert wire.until(b"welcome") == [b"welcome"]
    finally:
        site.users("dev1", DEVICES)
        site.rights("dev1", DEVICES)
    assert wait_until(lambda: not listens(site, "storm"), PATIENCE)
    assert wait_until(lambda: silenced(site, stack, storm, wire), PATIENCE)


def silenced(site: Site, stack: ExitStack, storm: Intruder, wire: Wire) -> bool:
    """Whether a connection from before may not publish any more."""
    storm.publish("mqtt/storm/sparkcluster/pub", b"still here")
    client(site, stack, BEAST).publish(f"mqtt/{BEAST}/sparkcluster/pub", b"honest")
    return b"still here" not in wire.until(b"honest")


def test_who_asks_for_everything_hides_nobodys_absence(site: Site, stack: ExitStack) -> None:
    broker = site.settings().brokers[2]
    spy = stack.enter_context(Intruder(site.brokers()[2], SPY, site.password, SPY))
    spy.subscribe("mqtt/+/mqtt/+/sub")
    findings = [str(finding) for finding in check(site.settings(), broker)]
    assert f"{broker.name}: fine: a message for an absent device is reported (2 routes)" in findings


def listens(site: Site, device: str) -> bool:
    """With a client id of its own: it must not end another connection of the device."""
    with Intruder(site.brokers()[0], device, site.password, f"{device}-2") as client:
        return not client.refused and client.subscribe(f"mqtt/+/mqtt/{device}/sub")


def test_the_back_end_reaches_kafka_and_no_broker(site: Site) -> None:
    given = site.settings().brokers[0].model_copy(update={"login": BACK_END})
    with pytest.raises(LinkRefused):
        Link(given, lambda _: None).connect()
