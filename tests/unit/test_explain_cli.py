"""`kalinka explain` and `kalinka route try`, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = "import sys; from kalinka_cli.main import main; sys.argv[0] = 'kalinka'; sys.exit(main())"
CONFIG = """
[[brokers]]
name = "dev1"
stomp = "stomp://127.0.33.20:61613"
[kafka]
"bootstrap.servers" = "127.0.33.20:9092"
[zookeeper]
hosts = "127.0.33.20:2181"
"""
WAY = """\
message mqtt/beast/mqtt/wolverine/pub
  queue      kalinka.mqtt.pub, by the composite topic mqtt.*.mqtt.*.pub
  route      routes.up[0]: mqtt/{source}/mqtt/{device}/pub -> {group}.mqtt.mqtt
             source = beast, device = wolverine
  group      0: the only one
record in 0.mqtt.mqtt
  key        wolverine
  partition  8 of 12: (murmur2(key) & 0x7fffffff) % partitions
  value      the payload, byte for byte
  header     kalinka.id = <broker>/<message-id>
  header     kalinka.source = beast
  header     mqtt.topic = mqtt/beast/mqtt/wolverine/pub
device wolverine
  route      routes.down[0]: {group}.mqtt.mqtt -> mqtt/{source}/mqtt/{device}/sub
  broker     the one where it listens, for example to mqtt/+/mqtt/wolverine/sub: dev1
  message    mqtt/beast/mqtt/wolverine/sub, at QoS 1 or what it subscribed to, if that is less
  delivered  when the broker took it and had a subscriber for it (delivery = "broker")
  absent     parked in 0.parked, partition 8; replayed in order when it listens again
  unclear    where it listens, or its broker is away: parked after 10 s
"""


class Kalinka:
    """The command, with a configuration."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(
        self, *args: str | bytes, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CODE, *args, "--config", str(self.file)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=60, check=False, env=os.environ | (env or {})
        )
        out, err = done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")
        assert "Traceback" not in err
        return subprocess.CompletedProcess(command, done.returncode, out, err)


@pytest.fixture
def kalinka(tmp_path: Path) -> Kalinka:
    (file := tmp_path / "kalinka.toml").write_text(CONFIG)
    return Kalinka(file)


def words(text: str) -> str:
    """Without the frame and the line breaks that depend on the terminal."""
    return " ".join(text.replace("│", " ").split())


def test_the_way_of_a_message(kalinka: Kalinka) -> None:
    done = kalinka("explain", "mqtt/beast/mqtt/wolverine/pub", "--partitions", "12")
    assert (done.returncode, done.stdout, done.stderr) == (0, WAY, "")


def test_the_way_as_json(kalinka: Kalinka) -> None:
    done = kalinka("explain", "--record", "0.sparkcluster.mqtt", "--key", "wolverine", "--partitions", "12", "--json")
    way = json.loads(done.stdout)
    assert way["record"]["partition"] == {
        "number": 8,
        "count": 12,
        "rule": "(murmur2(key) & 0x7fffffff) % partitions",
    }
    assert (way["down"]["topic"], way["down"]["parked"]) == ("sparkcluster/mqtt/wolverine/sub", "0.parked")
    assert (way["message"], way["up"], way["refusal"], done.returncode) == (None, None, None, 0)


def test_a_refusal_is_a_finding(kalinka: Kalinka) -> None:
    done = kalinka("explain", "mqtt/be.ast/mqtt/wolverine/pub")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith(
        "refused: source 'be.ast': the id contains \".\"\n"
        "  then       it goes to kalinka.dead, byte for byte, with this reason in the header kalinka.reason\n"
    )


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "give either the MQTT topic of a message, or --record TOPIC --key KEY"),
        (("a", "--record", "b"), "give either the MQTT topic of a message, or --record TOPIC --key KEY"),
        (("--record", "b"), "the key of a record is its device: give it with --key"),
        (("a", "--key", "b"), "--key, --source and --header belong to --record"),
        (("--record", "a", "--key", "b", "--header", "x"), "'x' should be NAME=VALUE"),
        (("a", "--partitions", "0"), "Invalid value for '--partitions'"),
    ],
)
def test_wrong_usage_of_explain(kalinka: Kalinka, args: tuple[str, ...], text: str) -> None:
    done = kalinka("explain", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in words(done.stderr)


@pytest.mark.parametrize("command", [("explain", "a"), ("route", "try", "a")])
def test_a_bad_configuration(kalinka: Kalinka, command: tuple[str, ...]) -> None:
    kalinka.file.write_text(CONFIG.replace("hosts", "host"))
    done = kalinka(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'{kalinka.file}: zookeeper.host: unknown key; did you mean "hosts"?' in done.stderr


@pytest.mark.parametrize("env", [{}, {"PYTHONIOENCODING": "ascii"}])
def test_ids_that_the_terminal_cannot_show(kalinka: Kalinka, env: dict[str, str]) -> None:
    done = kalinka("explain", "mqtt/straße/mqtt/機/pub", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert kalinka("explain", b"mqtt/\xff/mqtt/x/pub", env=env).returncode == 1
    assert kalinka("explain", "--record", "0.mqtt.mqtt", "--key", b"\xff", "--source", b"\xfe", env=env).returncode == 1


def test_topics_through_the_routes(kalinka: Kalinka) -> None:
    done = kalinka("route", "try", "mqtt/a/mqtt/b/pub", "mqtt/a/sparkcluster/pub", "--partitions", "3")
    assert done.returncode == 0
    assert done.stdout == (
        "mqtt/a/mqtt/b/pub  ->  0.mqtt.mqtt  key b partition 2  (routes.up[0])\n"
        "mqtt/a/sparkcluster/pub  ->  0.mqtt.sparkcluster  key a partition 1  (routes.up[1])\n"
    )
    assert done.stderr == "2 tried, 0 refused\n"


def test_a_topic_without_a_route_is_a_finding(kalinka: Kalinka, tmp_path: Path) -> None:
    (file := tmp_path / "topics").write_bytes(b"mqtt/a/mqtt/b/pub\r\n\n# these two are wrong\nmqtt/a\n\xff\n")
    done = kalinka("route", "try", "--file", str(file))
    assert (done.returncode, done.stderr) == (1, "3 tried, 2 refused\n")
    assert done.stdout.splitlines()[1] == "mqtt/a  ->  refused: no route for the MQTT topic 'mqtt/a'"
    assert done.stdout.splitlines()[2].endswith("  ->  refused: the MQTT topic is not UTF-8")


def test_standard_input_and_json(kalinka: Kalinka) -> None:
    done = kalinka("route", "try", "mqtt/x", "--file", "-", "--json", stdin=b"mqtt/a/mqtt/b/pub\n")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["sample"] for line in lines] == ["mqtt/x", "mqtt/a/mqtt/b/pub"]
    assert lines[0]["refusal"]["reason"] == "no route for the MQTT topic 'mqtt/x'"
    assert (lines[1]["record"]["key"], done.returncode) == ("b", 1)


def test_records_through_the_routes(kalinka: Kalinka) -> None:
    samples = b"0.sparkcluster.mqtt wolverine\n0.mqtt.mqtt\ta b\tbeast\n0.mqtt.mqtt a.b\n"
    done = kalinka("route", "try", "--down", "--file", "-", stdin=samples)
    assert done.stdout == (
        "0.sparkcluster.mqtt wolverine  ->  sparkcluster/mqtt/wolverine/sub  (routes.down[1])\n"
        "0.mqtt.mqtt\ta b\tbeast  ->  mqtt/beast/mqtt/a b/sub  (routes.down[0])\n"
        "0.mqtt.mqtt a.b  ->  refused: device b'a.b': the id contains \".\"\n"
    )
    assert (done.returncode, done.stderr) == (1, "3 tried, 1 refused\n")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "give topics, or --file FILE, or --file - for standard input"),
        (("--file", "/nowhere/x"), "/nowhere/x cannot be read: No such file or directory"),
        (("--file", "/"), "/ cannot be read: Is a directory"),
        (("--down", "x"), '\'x\' should be "KAFKA_TOPIC KEY" or "KAFKA_TOPIC KEY SOURCE"'),
    ],
)
def test_wrong_usage_of_route_try(kalinka: Kalinka, args: tuple[str, ...], text: str) -> None:
    done = kalinka("route", "try", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in words(done.stderr)
