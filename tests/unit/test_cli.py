"""The command itself, as a process: what it prints, where, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from kalinka_cli import main as cli

from kalinka_jms import __version__
from kalinka_jms.config import load
from kalinka_jms.errors import KafkaError, KalinkaError, LabError, LinkLost, LinkRefused, RegistryError

SINGLE = (
    *("pub", "sub", "registry", "run", "demo", "broker-config"),
    *("explain", "devices", "brokers", "send", "parked"),
)

GOOD = """
[[brokers]]
name = "dev1"
stomp = "stomp://127.0.33.20:61613"
[kafka]
"bootstrap.servers" = "127.0.33.20:9092"
[zookeeper]
hosts = "127.0.33.20:2181"
"""


def kalinka(*args: str, entry: str = "main") -> subprocess.CompletedProcess[str]:
    """Run the command as its entry point does, without a terminal."""
    code = f"import sys; from kalinka_cli.main import {entry}; sys.argv[0] = 'kalinka'; sys.exit({entry}())"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kalinka.toml"
    path.write_text(GOOD)
    return path


def test_version() -> None:
    done = kalinka("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kalinka {__version__}\n", "")


def test_help_lists_every_command_and_each_has_an_example() -> None:
    done = kalinka("--help")
    assert done.returncode == 0
    groups = {"config": ("check",), "route": ("try",), "topics": ("create",), "lab": ()}
    for name in SINGLE:
        assert name in done.stdout
        assert f"Example: kalinka {name}" in " ".join(kalinka(name, "--help").stdout.split())
    for group, names in groups.items():
        assert group in done.stdout
        for name in names:
            assert f"Example: kalinka {group} {name}" in " ".join(kalinka(group, name, "--help").stdout.split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, kalinka_cli.main; "
        "print(*{'pydantic', 'confluent_kafka', 'kazoo', 'stomp', 'asyncio', 'paho'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_a_good_configuration(file: Path) -> None:
    done = kalinka("config", "check", str(file))
    assert done.returncode == 0
    assert done.stdout == f"{file}: fine: 1 broker, 1 group, 2 routes up, 2 routes down\n"
    assert done.stderr == ""


def test_overlaps_are_noted(file: Path) -> None:
    file.write_text(
        GOOD + '[[routes.up]]\nfrom = "a/{x}/b"\ntopic = "t"\nkey = "k"\n'
        '[[routes.up]]\nfrom = "a/b/{x}"\ntopic = "t"\nkey = "k"\n'
    )
    done = kalinka("config", "check", str(file))
    assert done.returncode == 0
    assert done.stderr == (
        f'{file}: note: routes.up[1].from = "a/b/{{x}}": overlaps with routes.up[0]; what both match goes there\n'
    )


BAD = [
    *[("config", "check"), ("config", "check", "--connect"), ("topics", "create", "--config")],
    *[(name, "--config") for name in ("pub", "sub", "registry", "run", "devices", "brokers", "parked", "dead")],
    ("send", "dev1", "x", "--config"),
]


@pytest.mark.parametrize("command", BAD)
def test_a_bad_configuration_is_a_usage_error_with_every_mistake(file: Path, command: tuple[str, ...]) -> None:
    file.write_text(GOOD.replace('name = "dev1"\n', "").replace("hosts", "host"))
    done = kalinka(*command, str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f'{file}: brokers[0].name: is missing: should be a name like "dev1" (letters, digits, . _ -; at most 64)',
        f'{file}: zookeeper.hosts: is missing: should be servers with ports, like "zk1:2181,zk2:2181"',
        f'{file}: zookeeper.host: unknown key; did you mean "hosts"?',
    ]


@pytest.mark.parametrize("entry", ["pub", "sub"])
def test_the_second_names_have_the_same_options(tmp_path: Path, entry: str) -> None:
    missing = tmp_path / "missing.toml"
    done = kalinka("--config", str(missing), "--log-level", "WARNING", entry=entry)
    assert (done.returncode, done.stderr) == (2, f"{missing}: cannot be read: No such file or directory\n")


@pytest.mark.parametrize("args", [("nonsense",), ("pub",), ("run", "--config", "x", "--log-level", "loud")])
def test_wrong_usage(args: tuple[str, ...]) -> None:
    done = kalinka(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LinkRefused("no"), 3),
        (LinkLost("no"), 3),
        (KafkaError("no"), 3),
        (RegistryError("no"), 3),
        (LabError("no"), 3),
        (KalinkaError("no"), 1),
    ],
)
def test_errors_end_with_their_text_and_a_code(
    error: KalinkaError, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["kalinka"])
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capsys.readouterr().err == "kalinka: no\n"


def test_the_configuration_of_the_lab_is_right(tmp_path: Path) -> None:
    done = kalinka("lab", "--state", str(tmp_path), "config", "--profile", "full")
    assert (done.returncode, done.stderr) == (0, "")
    (file := tmp_path / "lab.toml").write_text(done.stdout)
    assert [broker.name for broker in load(file).brokers] == ["dev1", "dev2", "dev3"]
