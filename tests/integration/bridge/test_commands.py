"""The commands that ask a running installation, as a user types them: where devices are, what becomes of a record."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scene import Scene

from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("bridge")]

Run = Callable[..., str]


@pytest.fixture
def run(lab: Lab) -> Run:
    """`kalinka … --config` with the lab's configuration; what it printed."""

    def run(*words: str, code: int = 0, stdin: bytes = b"") -> str:
        command = [sys.executable, "-m", "kalinka_cli.main", *words, "--config", str(lab.config_path)]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr
        return done.stdout.decode()

    return run


def found(run: Run, *words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code))


def test_devices_are_found_where_they_listen(run: Run, scene: Scene) -> None:
    clean, persistent = scene.device("here", 0), scene.device("there", 1, clean=False)
    assert wait_until(lambda: len(found(run, "devices", "--match", f"*here-{scene.ledger.run}")) == 2, 60)
    (one,) = found(run, "devices", persistent.name)
    filters = [(two["filter"], two["persistent"], two["qos"]) for two in one["brokers"][0]["filters"]]
    assert (one["brokers"][0]["name"], one["brokers"][0]["counts"]) == ("dev2", True)
    assert sorted(filters) == [
        (f"mqtt/+/mqtt/{persistent.name}/sub", True, 1),
        (f"sparkcluster/mqtt/{persistent.name}/sub", True, 1),
    ]
    table = run("devices", "--broker", "dev1", "--match", f"*-{scene.ledger.run}").splitlines()
    assert table[0].split("  ")[0] == "DEVICE"
    assert [line.split()[:2] for line in table[1:]] == [[clean.name, "dev1"]]
    assert table[1].endswith("  clean")


def test_a_device_that_listens_nowhere(run: Run) -> None:
    assert run("devices", "nobody", code=1) == ""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Who starts the tests in the background has them, and what they start, ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_changes_are_followed_until_ctrl_c(lab: Lab, scene: Scene) -> None:
    device = scene.device("rover")
    command = [sys.executable, "-m", "kalinka_cli.main", "devices", device.name, "--follow", "--json"]
    follower = subprocess.Popen(
        [*command, "--config", str(lab.config_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    try:
        device.join(scene.brokers[0])
        assert _wait_for(follower.stdout, "dev1")
        device.move(scene.brokers[2])
        assert _wait_for(follower.stdout, "dev3")
        device.leave()
        assert _wait_for(follower.stdout, "")
    finally:
        follower.send_signal(signal.SIGINT)
        _, told = follower.communicate(timeout=30)
    assert (follower.returncode, told) == (0, "")


def _wait_for(lines: Any, broker: str) -> bool:
    """Read lines until the device is at that broker, or nowhere."""
    for line in lines:
        names = [one["name"] for one in json.loads(line)["brokers"]]
        if names == ([broker] if broker else []):
            return True
    return False


def test_brokers_are_shown_with_who_works_for_them(run: Run) -> None:
    def whole() -> bool:
        shown = json.loads(_unchecked(run))
        return all(one["links"] == {"pub": 2, "sub": 2, "registry": 1} and one["state"] == "up" for one in shown)

    assert wait_until(whole, 60), _unchecked(run)
    shown = found(run, "brokers")
    assert [one["name"] for one in shown] == ["dev1", "dev2", "dev3"]
    for one in shown:
        assert one["pub"]["active"] in one["pub"]["instances"]
        assert one["watcher"] and one["waiting"] == 1
    assert run("brokers").splitlines()[1].endswith("pub 2, sub 2, registry 1")


def _unchecked(run: Run) -> str:
    """What `brokers` shows, whatever it thinks of it."""
    try:
        return run("brokers", "--json")
    except AssertionError:
        return run("brokers", "--json", code=1)


def test_a_record_that_is_sent_is_delivered(run: Run, scene: Scene) -> None:
    device = scene.device("beast", 0)
    assert wait_until(lambda: device.name in run("devices", "--match", device.name), 60)
    told = run("send", device.name, "hello", "--wait", "60")
    assert told.startswith("delivered after ")
    payload = bytes(range(256))
    run("send", device.name, "-", "--source", "wolverine", "--wait", "60", stdin=payload)
    assert [(message.topic, message.payload) for message in device.received] == [
        (f"sparkcluster/mqtt/{device.name}/sub", b"hello"),
        (f"mqtt/wolverine/mqtt/{device.name}/sub", payload),
    ]


def test_a_record_for_an_absent_device_is_parked(run: Run, scene: Scene) -> None:
    name = scene.device("away").name
    for payload in ("1", "22"):
        sent = found(run, "send", name, payload, "--wait", "60", code=1)
        assert (sent["outcome"], sent["reason"]) == ("parked", "it waits in 0.parked until the device listens")
    (waiting,) = [one for one in found(run, "parked", "--limit", "0")["devices"] if one["device"] == name]
    assert waiting["count"] == 2
    live = found(run, "explain", "--record", "0.sparkcluster.mqtt", "--key", name, "--live")["live"]
    assert (live["owner"], live["listens"], live["waiting"]["count"]) == (None, [], 2)
    assert live["undecided"] == 0 and live["reader"]


def test_a_record_that_can_never_be_delivered_is_dead_for_a_reason(run: Run, scene: Scene) -> None:
    name = f"de.v-{scene.ledger.run}"
    reason = f"device b'{name}': the id contains \".\""
    told = run("send", name, "x", "--wait", "60", code=1)
    assert told.startswith("dead after ") and f": {reason} (" in told
    (buried,) = [one for one in found(run, "dead", "--limit", "0")["reasons"] if one["reason"] == reason]
    assert buried["count"] == 1
    assert buried["origin"].startswith("0.sparkcluster.mqtt/") and buried["id"].startswith("kalinka-send/")


def test_explain_says_where_the_device_listens_now(run: Run, scene: Scene) -> None:
    device = scene.device("storm", 2)
    assert wait_until(lambda: device.name in run("devices", "--match", device.name), 60)
    told = run("explain", f"mqtt/beast/mqtt/{device.name}/pub", "--live").splitlines()
    now = told[told.index("now") + 1 :]
    assert now[0].startswith("  listens    at dev3 to ")
    assert now[1] == "  waiting    nothing in 0.parked"
    assert now[-1] == "  so it      would be delivered at dev3"


def test_usage_is_told(run: Run) -> None:
    assert run("send", "dev1", "x", "--topic", "nowhere", code=2) == ""
    assert run("devices", "--broker", "nowhere", code=2) == ""
