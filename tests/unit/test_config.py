"""The configuration: defaults, secrets, and every mistake named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kalinka_jms.config import Broker, Secret, Settings, Tls, UpRoute, load, notes
from kalinka_jms.config.kafka_check import OWNED
from kalinka_jms.config.settings import DEFAULT_DOWN, DEFAULT_UP
from kalinka_jms.errors import ConfigError

GOOD = """
[[brokers]]
name = "dev1"
stomp = "stomp://127.0.33.20:61613"

[kafka]
"bootstrap.servers" = "127.0.33.20:9092"

[zookeeper]
hosts = "127.0.33.20:2181"
"""


def loaded(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "kalinka.toml"
    file.write_text(text, "utf-8")
    return load(file)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    return [str(problem) for problem in caught.value.problems]


def test_the_shortest_file_has_all_defaults(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD)
    assert settings.brokers == (Broker(name="dev1", stomp="stomp://127.0.33.20:61613"),)
    assert (settings.brokers[0].host, settings.brokers[0].port) == ("127.0.33.20", 61613)
    assert not settings.brokers[0].secure
    assert settings.groups == settings.served == ("0",)
    assert (settings.routes.up, settings.routes.down) == (DEFAULT_UP, DEFAULT_DOWN)
    assert settings.kafka_settings() == {"bootstrap.servers": "127.0.33.20:9092"}
    assert settings.zookeeper.root == "/kalinka/devices"


def test_routes_of_the_file_replace_the_default_ones_of_their_direction(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD + '[[routes.up]]\nfrom = "a/{device}"\ntopic = "a"\nkey = "{device}"\n')
    assert settings.routes.up == (UpRoute(from_="a/{device}", topic="a", key="{device}"),)
    assert settings.routes.down == DEFAULT_DOWN


def test_groups_are_sorted_and_a_sub_serves_those_it_names(tmp_path: Path) -> None:
    text = GOOD.replace(
        "\n[kafka]", 'group = "b"\n[[brokers]]\nname = "dev2"\nstomp = "stomp://h:1"\ngroup = "a"\n[kafka]'
    )
    settings = loaded(tmp_path, text + '[sub]\ngroups = ["b"]\n')
    assert settings.groups == ("a", "b")
    assert settings.served == ("b",)


def test_kafka_keys_may_stand_without_quotes(tmp_path: Path) -> None:
    text = GOOD.replace('"bootstrap.servers"', "bootstrap.servers") + "[kafka.socket]\ntimeout.ms = 5000\n"
    assert loaded(tmp_path, text).kafka["socket.timeout.ms"] == 5000


def test_secrets_are_read_afresh_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passcode").write_text("hidden-1\n")
    monkeypatch.setenv("KALINKA_TEST_PASSWORD", "hidden-2")
    text = GOOD.replace("\n[kafka]", 'login = "kalinka"\npasscode = { file = "passcode" }\n[kafka]')
    text = text.replace("[zookeeper]", '"sasl.password" = { env = "KALINKA_TEST_PASSWORD" }\n[zookeeper]')
    settings = loaded(tmp_path, text + 'auth = { user = "kalinka", password = "hidden-3" }\n')
    passcode, auth = settings.brokers[0].passcode, settings.zookeeper.auth
    assert passcode is not None and auth is not None
    assert [passcode.read(), auth.password.read()] == ["hidden-1", "hidden-3"]
    assert settings.kafka_settings()["sasl.password"] == "hidden-2"
    (tmp_path / "passcode").write_text("hidden-4")
    assert passcode.read() == "hidden-4"
    assert "hidden" not in repr(settings) + str(settings) + repr(passcode) + f"{auth.password}"


def test_a_secret_has_exactly_one_origin() -> None:
    with pytest.raises(ValueError, match="exactly one of them"):
        Secret("a", env="B")
    with pytest.raises(ValueError, match="exactly one of them"):
        Secret()


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = """
dead = "a b"
[[brokers]]
name = "dev1"
stomp = "stomp://127.0.33.20"
passcode = { env = "KALINKA_TEST_NOT_SET" }
[[brokers]]
name = "dev 2"
stmp = "stomp://127.0.33.21:61613"
heartbeat = "4"
[[brokers]]
name = "dev1"
stomp = "stomp://user:hidden@127.0.33.20:1"
mqtt = "stomp://127.0.33.20:1883"
group = 0
passcode = 4711
[kafka]
"sasl.password" = { file = "nowhere" }
"group.id" = "mine"
"linger.mss" = "hidden"
"linger.ms" = "soon"
"security.protocol" = "TSL"
"error_cb" = "print"
"ssl.ca.location" = "nowhere.pem"
[zookeeper]
hosts = "127.0.33.20"
root = "/devices"
auth = "kalinka:hidden"
[pub]
exclusive = "yes"
queues = ["/queue/x"]
[sub]
groups = ["7"]
transaction = 100000
prefetch = 7
[route]
"""
    found = mistakes(tmp_path, text)
    assert "hidden" not in "\n".join(found)
    assert found == [
        'brokers[0].stomp = "stomp://127.0.33.20": should look like stomp://host:61613, or stomps://host:61614 for TLS',
        "brokers[0].passcode: the environment variable KALINKA_TEST_NOT_SET is not set",
        'brokers[1].name = "dev 2": should be a name like "dev1" (letters, digits, . _ -; at most 64)',
        'brokers[1].stomp: is missing: should be an address like "stomp://host:61613"',
        'brokers[1].heartbeat = "4": should be seconds, 0.1 to 600',
        'brokers[1].stmp: unknown key; did you mean "stomp"?',
        'brokers[2].stomp = "stomp://***@127.0.33.20:1": should hold no login: use the keys login and passcode',
        'brokers[2].mqtt = "stomp://127.0.33.20:1883": should look like mqtt://host:1883, or mqtts://host:8883 for TLS',
        'brokers[2].group = 0: should be a group like "0" (letters, digits, _ -; at most 32)',
        'brokers[2].passcode = ***: should be a text, { env = "NAME" } or { file = "/path" }',
        f'kafka."sasl.password": the file {tmp_path}/nowhere cannot be read: No such file or directory',
        'zookeeper.hosts = "127.0.33.20": should be servers with ports, like "zk1:2181,zk2:2181"',
        'zookeeper.root = "/devices": should be a path of two names or more, like "/kalinka/devices" '
        "(its parent holds more of Kalinka's nodes)",
        "zookeeper.auth = ***: should be a table with scheme, user, password",
        'pub.queues[0] = "/queue/x": should be a name like "kalinka.mqtt.pub" (no "/queue/" before it; no blank, '
        '"," or "?")',
        'pub.exclusive = "yes": should be true (order kept) or false (throughput before order)',
        "sub.prefetch: unknown key; known here are ack_timeout, consumer_group, echo_timeout, groups, "
        "index_bytes, max_hops, max_parked, transaction, transactions_in_flight, ttl, window_bytes, window_records",
        'dead = "a b": should be the name of a Kafka topic (letters, digits, . _ -; at most 249)',
        'route: unknown key; did you mean "routes"?',
        'brokers[2].name = "dev1": is that of brokers[0] already',
        'kafka."group.id" = "mine": should not be set: set sub.consumer_group instead',
        'kafka."linger.mss": librdkafka has no such setting; did you mean "linger.ms"?',
        'kafka."linger.ms" = "soon": Invalid value for configuration property "queue.buffering.max.ms"',
        'kafka."security.protocol" = "TSL": Invalid value "TSL" for configuration property "security.protocol"',
        'kafka.error_cb = "print": cannot be set in a file: expected error_cb property as a callable function',
        f'kafka."ssl.ca.location" = "{tmp_path}/nowhere.pem": there is no such file',
        'kafka."bootstrap.servers": is missing: should be servers like "kafka1:9092"',
        'sub.groups[0] = "7": no broker has this group; should be one of "0"',
        "sub.transaction = 100000: times sub.transactions_in_flight = 4 should be at most 30000",
    ]


def test_an_empty_file_lacks_three_tables(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "") == [
        "brokers: is missing: should be at least one table [[brokers]]",
        'kafka: is missing: should be a table [kafka] with "bootstrap.servers"',
        'zookeeper: is missing: should be a table [zookeeper] with hosts = "host:2181"',
    ]


@pytest.mark.parametrize("key", sorted(OWNED))
def test_what_kalinka_owns_is_refused_with_the_reason(tmp_path: Path, key: str) -> None:
    (found,) = mistakes(tmp_path, GOOD.replace("[zookeeper]", f'"{key}" = "1"\n[zookeeper]'))
    assert found.endswith(f' = "1": should not be set: {OWNED[key]}')


TOPIC_NAME = "should be the name of a Kafka topic (letters, digits, . _ -; at most 249)"
ROUTES = [
    ("up", "from", "a/+/{b}", 'has "+"; write {name} for one level and {name#} for the rest'),
    ("up", "from", "a/x{b}", 'has "x{b}" as a level: a placeholder should be a whole level'),
    ("up", "from", "{b#}/a", "has {name#} before its end"),
    ("up", "from", "{b}/{b}", "names {b} twice"),
    ("up", "from", "{b/a", "has a brace that is not part of {name} or {name#}"),
    ("up", "from", "a/{source#}", "has {name#} where one level is needed"),
    ("up", "from", "a/{group}", "should not have {group}: Kalinka chooses it"),
    ("up", "topic", "{c}", "has {c}; known here are {b}, {group}"),
    ("up", "topic", "a/b", TOPIC_NAME),
    ("up", "topic", "{group}.parked", "should be another topic: Kalinka keeps 0.parked for itself"),
    ("up", "key", "{group}", "has {group}; known here are {b}"),
    ("down", "from", "{device}", "has {device}; known here are {group}"),
    ("down", "from", "kalinka.dead", "should be another topic: Kalinka keeps kalinka.dead for itself"),
    ("down", "to", "a/{source}", "should have {device} as one of its levels"),
    ("down", "to", "a/{device}/{b}", "has {b}; known here are {device}, {group}, {source}"),
    ("down", "delivery", "puback", 'should be "broker" or "device"'),
]


@pytest.mark.parametrize(("direction", "key", "value", "remedy"), ROUTES)
def test_mistakes_in_routes(tmp_path: Path, direction: str, key: str, value: str, remedy: str) -> None:
    right = {"up": {"from": "a/{b}", "topic": "t", "key": "k"}, "down": {"from": "u", "to": "d/{device}"}}[direction]
    lines = [f'{name} = "{text}"' for name, text in (right | {key: value}).items()]
    found = mistakes(tmp_path, "\n".join([GOOD, f"[[routes.{direction}]]", *lines]))
    assert f'routes.{direction}[0].{key} = "{value}": {remedy}' in found


def test_routes_that_are_never_reached_and_loops(tmp_path: Path) -> None:
    text = """
[routes]
up = [{ from = "a/{x}", topic = "t", key = "{x}" }, { from = "a/b", topic = "t", key = "b", envelope = "reference" }]
down = [{ from = "t", to = "a/{device}" }, { from = "t", to = "c/{device}" }]
"""
    assert mistakes(tmp_path, GOOD + text) == [
        'routes.up[1].from = "a/b": is never reached: routes.up[0] takes all of its topics; should stand before it',
        'routes.down[1].from = "t": is never reached: routes.down[0] reads the same topic',
        'routes.down[0].to = "a/{device}": is a loop: routes.up[0] brings back to Kafka what this route sends',
        'routes.down[0].to = "a/{device}": is a loop: routes.up[1] brings back to Kafka what this route sends',
        'routes.down[0].envelope = "plain": should be "reference", which routes.up[1] writes into the same topic',
        'routes.down[1].envelope = "plain": should be "reference", which routes.up[1] writes into the same topic',
    ]


def test_several_groups_need_the_group_in_down_routes(tmp_path: Path) -> None:
    text = GOOD.replace("\n[kafka]", '[[brokers]]\nname = "dev2"\nstomp = "stomp://h:1"\ngroup = "1"\n[kafka]')
    found = mistakes(tmp_path, text + '[[routes.down]]\nfrom = "t"\nto = "a/{device}"\n')
    assert found == ['routes.down[0].from = "t": should have {group}, because there are several groups']


def test_an_overlap_is_noted_and_a_special_case_before_the_general_one_is_not(tmp_path: Path) -> None:
    text = """
[routes]
up = [{ from = "a/{x}/b", topic = "t", key = "{x}" }, { from = "a/c/{y}", topic = "t", key = "{y}" },
      { from = "a/{x#}", topic = "t", key = "k" }]
"""
    assert [str(note) for note in notes(loaded(tmp_path, GOOD + text))] == [
        'routes.up[1].from = "a/c/{y}": overlaps with routes.up[0]; what both match goes there'
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[kafka\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 7)"),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value (at line 2, column 6)"),
        (b"a = '\xff'\n", "is not UTF-8 text"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "kalinka.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == f"{file}: {expected}"


def test_tls_files_must_fit_together(tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("nothing")
    text = GOOD.replace("stomp://", "stomps://").replace("\n[kafka]", 'tls = { cert = "not.pem" }\n[kafka]')
    (found,) = mistakes(tmp_path, text)
    assert found.startswith("brokers[0].tls: ca, cert, key and key_password do not fit together: ")
    assert Tls(verify=False).context().check_hostname is False


def test_tls_and_login_need_their_counterparts(tmp_path: Path) -> None:
    text = GOOD.replace("\n[kafka]", 'tls = {}\npasscode = "x"\n[kafka]')
    assert mistakes(tmp_path, text) == [
        "brokers[0]: has a tls table, but stomp:// is plain: the address should begin with stomps://"
    ]
    text = GOOD.replace("\n[kafka]", 'passcode = "x"\n[kafka]')
    assert mistakes(tmp_path, text) == ["brokers[0]: has a passcode but no login"]
