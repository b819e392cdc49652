"""`kalinka config check --connect` on real servers: a lab that is fine, and mistakes, each found and explained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from confluent_kafka.admin import AdminClient
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from kalinka_jms.config import load
from kalinka_jms.config.settings import Broker
from kalinka_jms.lab import jars, processes, servers, toolchain
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout, Ports
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.stomp.link import Link
from tests.log_in import can_log_in

pytestmark = pytest.mark.lab

PORTS = Ports(mqtt=2883, stomp=62613, openwire=62616)
"""Of a broker of these tests' own, beside those of the lab."""

PLUGINS = """<plugins><simpleAuthenticationPlugin><users>
  <authenticationUser username="kalinka" password="right" groups="bridges"/>
</users></simpleAuthenticationPlugin></plugins>
<destinationPolicy>"""

Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def check(lab: Lab, tmp_path: Path) -> Check:
    """`kalinka config check` on the lab's configuration, or on what `edit` made of it."""

    def check(*options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "kalinka.toml"
        if not file.exists():
            file.write_text(lab.config_path.read_text())
        command = [sys.executable, "-m", "kalinka_cli.main", "config", "check", str(file), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return check


@pytest.fixture
def edit(lab: Lab, tmp_path: Path) -> Callable[..., None]:
    """Write the configuration that `check` looks at: the lab's, with texts replaced."""

    def edit(*changes: tuple[str, str]) -> None:
        text = lab.config_path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "kalinka.toml").write_text(text)

    return edit


@pytest.fixture(scope="module")
def poor(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that wants a login, reports no absence on one route and forwards nothing of another; its address."""
    layout = Layout(tmp_path_factory.mktemp("poor"), "small", lab.layout.base_address, PORTS)
    service = layout.service("dev1.activemq")
    command = servers.prepare(layout, service, servers.Runtime(toolchain.java(), jars.fetch("activemq", print)))
    file = layout.directory(service) / "activemq.xml"
    text = file.read_text()
    for old, new in (
        ('"mqtt.*.mqtt.*.sub" sendAdvisoryIfNoConsumers="true"', '"mqtt.*.mqtt.*.sub"'),
        ('name="mqtt.*.sparkcluster.pub"', 'name="elsewhere"'),
        ("<destinationPolicy>", PLUGINS),
        ("wireFormat.maxFrameSize=10223616&amp;transport.default", "transport.default"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text)
    processes.spawn(command, layout.directory(service), layout.log(service))
    address = f"stomp://{service.address}:{PORTS.stomp}"
    broker = Broker(name="poor", stomp=address, login="kalinka", passcode="right")
    try:
        assert wait_until(lambda: can_log_in(broker), 120), layout.log(service).read_text()
        yield address
    finally:
        processes.stop(layout.state, processes.running(layout.state).values(), 30)


def lines(done: subprocess.CompletedProcess[str], where: str) -> list[str]:
    """What was said of one server, without what is fine."""
    told = [line for line in done.stdout.splitlines() if line.startswith(f"{where}: ")]
    return [line for line in told if not line.startswith(f"{where}: fine: ")]


def test_a_lab_is_fine(check: Check) -> None:
    done = check("--connect")
    assert done.stderr == ""
    told = done.stdout.splitlines()[1:]
    for name in ("dev1", "dev2", "dev3"):
        assert [line.removeprefix(f"{name}: fine: ") for line in told if line.startswith(name)][1:] == [
            "a message for an absent device is reported (2 routes)",
            "a device that begins to listen over MQTT is seen",
            'what devices publish to "mqtt/{source}/mqtt/{device}/pub" goes into the queue kalinka.mqtt.pub',
            'what devices publish to "mqtt/{source}/sparkcluster/pub" goes into the queue kalinka.sparkcluster.pub',
        ]
    assert told[-3:] == [
        "Kafka: note: there is one node only: while it is away nothing goes on; have three",
        "Kafka: fine: 5 topics on 1 node",
        "ZooKeeper: fine: /kalinka/devices can be written",
    ]


def test_a_wrong_password(check: Check, edit: Callable[..., None], lab: Lab, poor: str) -> None:
    known = f'stomp = "stomp://{lab.layout.base_address}:{lab.layout.ports.stomp}"'
    edit((known, f'stomp = "{poor}"\nlogin = "kalinka"\npasscode = "hunter2"'))
    done = check("--connect", code=1)
    assert lines(done, "dev1") == [
        "dev1: finding: the broker refuses the link: User name [kalinka] or password is invalid; "
        'correct login ("kalinka") and passcode of this broker in the configuration'
    ]
    assert lines(done, "dev2") == []
    assert "hunter2" not in done.stdout + done.stderr


def test_a_broker_that_believes_what_a_sender_says_of_itself(check: Check, edit: Callable[..., None], lab: Lab) -> None:
    verify = ("[pub]\n", "[pub]\nverify_source = true\n")
    known = f'stomp = "stomp://{lab.layout.addresses[0]}:{lab.layout.ports.stomp}"'
    edit(verify, (known, f'{known}\nlogin = "kalinka"\npasscode = "anything"'))
    done = check("--connect", code=1)
    assert lines(done, "dev1") == [
        "dev1: finding: it takes any passcode: everybody can log in as any device, and verify_source proves nothing; "
        "have its authentication plugin refuse it: `kalinka broker-config --devices` prints one"
    ]
    assert lines(done, "dev2") == [
        "dev2: finding: it does not say who sent a message (no JMSXUserID): with verify_source all of them would be "
        'dead letters; set populateJMSXUserID="true" on <broker> in its activemq.xml, and have it want logins'
    ]


def test_policies_missing_on_a_broker(check: Check, edit: Callable[..., None], lab: Lab, poor: str) -> None:
    address, ports = lab.layout.base_address, lab.layout.ports
    edit(
        (f'"stomp://{address}:{ports.stomp}"', f'"{poor}"\nlogin = "kalinka"\npasscode = "right"'),
        (f'"mqtt://{address}:{ports.mqtt}"', f'"mqtt://{address}:{PORTS.mqtt}"'),
    )
    assert lines(check("--connect", code=1), "dev1") == [
        "dev1: finding: a message for an absent device vanishes in silence and would count as delivered "
        '(route to "mqtt/{source}/mqtt/{device}/sub"); add '
        '<policyEntry topic="mqtt.*.mqtt.*.sub" sendAdvisoryIfNoConsumers="true"/> to its activemq.xml; '
        "`kalinka broker-config` prints a whole activemq.xml",
        'dev1: finding: what devices publish to "mqtt/{source}/sparkcluster/pub" goes into no queue: it is lost; add '
        '<compositeTopic name="mqtt.*.sparkcluster.pub" forwardOnly="true"><forwardTo>'
        '<queue physicalName="kalinka.mqtt.pub"/></forwardTo></compositeTopic> to its activemq.xml; '
        "`kalinka broker-config` prints a whole activemq.xml",
        "dev1: finding: a device may publish more than Kafka takes (10,485,760 bytes): that would end in ActiveMQ.DLQ; "
        "add wireFormat.maxFrameSize=10223616 to the uri of its MQTT connectors",
    ]


def test_a_broker_that_does_not_tell_what_a_device_has(
    check: Check, edit: Callable[..., None], lab: Lab, poor: str
) -> None:
    address, ports = lab.layout.base_address, lab.layout.ports
    edit(
        (f'"stomp://{address}:{ports.stomp}"', f'"{poor}"\nlogin = "kalinka"\npasscode = "right"'),
        (f'"mqtt://{address}:{ports.mqtt}"', f'"mqtt://{address}:{PORTS.mqtt}"'),
        ('delivery = "broker"', 'delivery = "device"'),
    )
    done = check("--connect", code=1)
    assert (
        "dev1: finding: the broker does not tell what a device has "
        '(route to "sparkcluster/mqtt/{device}/sub", delivery = "device"): its records would never count as delivered, '
        'and be parked again and again; add advisoryForDispatched="true" advisoryForConsumed="true" to the '
        'policyEntry topic="sparkcluster.mqtt.*.sub" of its activemq.xml; '
        "`kalinka broker-config --delivery-device` prints a whole one"
    ) in lines(done, "dev1")
    assert lines(done, "dev2") == []
    assert 'dev2: fine: the broker tells what a device has (2 routes with delivery = "device")' in done.stdout


def test_topics_missing_until_they_are_created(
    check: Check, edit: Callable[..., None], lab: Lab, tmp_path: Path
) -> None:
    edit(('group = "0"', 'group = "check"'), ('groups = ["0"]', 'groups = ["check"]'))
    missing = lines(check("--connect", code=1), "Kafka")
    assert missing[0] == (
        "Kafka: finding: the topic check.mqtt.mqtt does not exist: sub waits for it and serves no device of group "
        "check; `kalinka topics create` makes what is missing"
    )
    assert [line.split(" does not exist")[0].rpartition(" ")[2] for line in missing if "does not exist" in line] == [
        "check.mqtt.mqtt",
        "check.sparkcluster.mqtt",
        "check.parked",
        "check.mqtt.sparkcluster",
    ]
    try:
        assert _create(tmp_path, "--dry-run").count("would be created") == 4
        assert _create(tmp_path, "--partitions", "6").count(": created: 6 partitions, replication 1") == 4
        assert ": created" not in _create(tmp_path)
        check("--connect")
    finally:
        _delete(lab, "check.")


def _create(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "kalinka_cli.main", "topics", "create", "--config", str(folder / "kalinka.toml")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _delete(lab: Lab, prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": lab.layout.bootstrap, "log_level": 0})
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    for deleted in admin.delete_topics(names).values() if names else ():
        deleted.result()


def test_topics_with_other_numbers_are_named_and_left(lab: Lab, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kalinka_cli.main", "topics", "create", "--partitions", "9", "--json"]
    done = subprocess.run([*command, "--config", str(lab.config_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    topics = json.loads(done.stdout)["topics"]
    assert {topic["action"] for topic in topics} == {"keep"}
    assert topics[2]["differences"] == [
        {
            "text": "6 partitions, not 9",
            "remedy": "kafka-topics.sh --alter --topic 0.parked --partitions 9 (keys move: do it while nothing waits)",
        }
    ]


def test_whoever_listens_to_everything_is_named(check: Check, lab: Lab) -> None:
    listening = Event()
    spy = Client(CallbackAPIVersion.VERSION2, client_id="spy")
    spy.on_connect = lambda *_: spy.subscribe("#")
    spy.on_subscribe = lambda *_: listening.set()
    spy.connect(lab.layout.addresses[1], lab.layout.ports.mqtt)
    spy.loop_start()
    try:
        assert listening.wait(20)
        (told,) = lines(check("--connect", code=1), "dev2")
    finally:
        spy.disconnect()
        spy.loop_stop()
    assert told.startswith('dev2: finding: the client "spy" (tcp://127.0.0.1:')
    assert told.endswith(
        ') listens to "#": while it does, this broker reports no absent device, and what is sent as a device leaves '
        "counts as delivered; let it subscribe to less, or read the Kafka topics instead"
    )


def test_what_cannot_be_reached(check: Check, edit: Callable[..., None], lab: Lab) -> None:
    ports, address = lab.layout.ports, lab.layout.base_address
    edit((f":{ports.stomp}", ":1"), (f":{ports.kafka}", ":2"), (f":{ports.zookeeper}", ":3"))
    found = json.loads(check("--connect", "--json", code=3).stdout)[0]["findings"]
    assert [(one["where"], one["kind"], one["means"]) for one in found] == [
        *(
            (f"dev{n}", "unreachable", f"cannot connect to stomp://{where}:1: Connection refused")
            for n, where in enumerate(lab.layout.addresses, 1)
        ),
        (
            "Kafka",
            "unreachable",
            f"Kafka at {address}:2: {address}:2/bootstrap: Connect to ipv4#{address}:2 failed: Connection refused",
        ),
        ("ZooKeeper", "unreachable", f"ZooKeeper at {address}:3 cannot be reached within 10 s"),
    ]


def test_the_check_leaves_nothing_behind(check: Check, lab: Lab) -> None:
    """No record in Kafka, no message in a queue."""
    settings = load(lab.config_path)
    before = _ends(lab)
    check("--connect")
    assert _ends(lab) == before
    for broker in settings.brokers:
        assert _browse(broker, settings.pub.queues) == []


def _ends(lab: Lab) -> dict[object, object]:
    from kalinka_jms.ops.cluster import Cluster
    from kalinka_jms.ops.topics import wanted

    settings = load(lab.config_path)
    return dict(Cluster(settings).spans([topic.name for topic in wanted(settings)]))


def _browse(broker: Broker, queues: tuple[str, ...]) -> list[bytes]:
    """Bodies of what lies in the queues; a browser gets an empty message at the end of each."""
    frames: list[bytes] = []
    ends = [Event() for _ in queues]

    def take(batch: object) -> None:
        for frame in batch if isinstance(batch, list) else ():
            if frame.raw("browser") == b"end":
                ends[int(frame.raw("subscription"))].set()
            else:
                frames.append(frame.body)

    link = Link(broker, take)
    link.connect()
    for number, name in enumerate(queues):
        link.subscribe(f"/queue/{name}", str(number), headers={"browser": "true"})
    assert all(end.wait(20) for end in ends)
    link.disconnect()
    return frames
