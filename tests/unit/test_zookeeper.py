"""The session: how it is opened, and that nobody who asks is ever blocked."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError
from kazoo.security import CREATOR_ALL_ACL

from kalinka_jms.config import Secret, Tls, Zookeeper, ZookeeperAuth
from kalinka_jms.errors import RegistryError
from kalinka_jms.lab.waiting import wait_until
from kalinka_jms.registry.zookeeper import IN_FLIGHT, Client, connect

PLAIN = Zookeeper(hosts="127.0.0.1:1")


class Answer:
    """Stands in for kazoo's AsyncResult."""

    def __init__(self) -> None:
        self.value: Any = None
        self.exception: Any = None
        self._then: Callable[[Answer], None] = lambda _: None

    def rawlink(self, then: Callable[[Answer], None]) -> None:
        self._then = then

    def arrive(self, value: Any = None, error: Any = None) -> None:
        self.value, self.exception = value, error
        self._then(self)


class Handler:
    def dispatch_callback(self, callback: Any) -> None:
        callback.func(*callback.args)


class Kazoo:
    """Counts what it is given."""

    def __init__(self, connected: bool = True) -> None:
        self.connected = connected
        self.client_state = "CONNECTED"
        self.handler = Handler()
        self.answers: list[Answer] = []

    def get(self) -> Answer:
        self.answers.append(Answer())
        return self.answers[-1]


@pytest.fixture
def kazoo() -> Kazoo:
    return Kazoo()


@pytest.fixture
def client(kazoo: Kazoo) -> Client:
    client = Client(PLAIN)
    client.kazoo = kazoo
    return client


def ask(client: Client, count: int, urgent: bool = False) -> list[Any]:
    got: list[Any] = []
    for _ in range(count):
        client.ask(lambda kazoo: kazoo.get(), lambda value, error: got.append(value or error), urgent)
    return got


def test_kazoo_never_holds_more_than_it_can_without_blocking(client: Client, kazoo: Kazoo) -> None:
    got = ask(client, 3 * IN_FLIGHT)
    assert len(kazoo.answers) == IN_FLIGHT
    kazoo.answers[0].arrive("value")
    assert len(kazoo.answers) == IN_FLIGHT + 1
    for answer in kazoo.answers[1:]:
        answer.arrive("value")
    for answer in kazoo.answers[IN_FLIGHT + 1 :]:
        answer.arrive("value")
    assert len(kazoo.answers) == 3 * IN_FLIGHT
    assert set(got) == {"value"}


def test_while_there_is_no_connection_everything_waits(client: Client, kazoo: Kazoo) -> None:
    kazoo.connected = False
    ask(client, 10)
    assert not kazoo.answers
    kazoo.connected = True
    client._changed("CONNECTED")
    assert len(kazoo.answers) == 10


def test_what_is_urgent_goes_first(client: Client, kazoo: Kazoo) -> None:
    kazoo.connected = False
    slow, quick = ask(client, 1), ask(client, 1, urgent=True)
    kazoo.connected = True
    client._changed("CONNECTED")
    kazoo.answers[0].arrive("value")
    assert (quick, slow) == (["value"], [])


def test_listeners_hear_of_every_state_until_they_leave(client: Client) -> None:
    heard: list[str] = []
    leave = client.listen(heard.append)
    for state in ("CONNECTED", "SUSPENDED", "LOST"):
        client._changed(state)
    leave()
    client._changed("CONNECTED")
    assert heard == ["CONNECTED", "SUSPENDED", "LOST"]


class Prompt(Kazoo):
    """Answers at once, as told."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self._next = list(answers)

    def get(self) -> Answer:
        answer = super().get()
        answer.value, answer.exception = None, None
        told = self._next.pop(0)
        if isinstance(told, Exception):
            answer.exception = told
        else:
            answer.value = told
        answer.rawlink = lambda then: then(answer)  # type: ignore[method-assign]
        return answer


def gather(client: Client, *answers: Any, tolerated: Any = ()) -> list[Any]:
    client.kazoo = Prompt(*answers)
    return client.gather([lambda kazoo: kazoo.get()] * 2, timeout=5.0, tolerated=tolerated)


def test_gathering_waits_for_all(client: Client) -> None:
    assert gather(client, "one", "two") == ["one", "two"]
    assert client.gather([]) == []


def test_gathering_asks_again_when_nobody_knows_what_happened(client: Client) -> None:
    assert sorted(gather(client, ConnectionLoss(), "one", SessionExpiredError(), "two")) == ["one", "two"]


def test_gathering_passes_over_errors_that_are_tolerated(client: Client) -> None:
    assert gather(client, NoNodeError(), "two", tolerated=NoNodeError) == [None, "two"]


def test_gathering_fails_with_any_other(client: Client) -> None:
    with pytest.raises(RegistryError, match="NoNodeError"):
        gather(client, NoNodeError(), "two")


def test_gathering_does_not_wait_for_ever(client: Client) -> None:
    with pytest.raises(RegistryError, match=r"did not answer within 0\.01 s"):
        client.gather([lambda kazoo: kazoo.get()], timeout=0.01)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RegistryError, match=r"ZooKeeper at 127.0.0.1:1 cannot be reached within 0.1 s"):
        connect(PLAIN, timeout=0.1)


def test_or_comes_up_later() -> None:
    client = connect(PLAIN, timeout=None)
    assert not client.connected
    client.stop()


def test_digest_login_and_who_may_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    auth = ZookeeperAuth(user="kalinka", password=Secret(file=str(secret)))
    client = Client(PLAIN.model_copy(update={"auth": auth}))
    assert client.kazoo.auth_data == {("digest", "kalinka:first")}
    assert client.kazoo.default_acl == CREATOR_ALL_ACL
    secret.write_text("second\n")
    client._changed("SUSPENDED")
    assert client.kazoo.auth_data == {("digest", "kalinka:second")}
    secret.unlink()
    client._changed("LOST")
    assert client.kazoo.auth_data == {("digest", "kalinka:second")}


def test_a_secret_that_cannot_be_read_at_the_start_is_an_error(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    auth = ZookeeperAuth(user="kalinka", password=Secret(file=str(secret)))
    secret.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        connect(PLAIN.model_copy(update={"auth": auth}))


def test_sasl_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    auth = ZookeeperAuth(scheme="sasl", user="kalinka", password=Secret(plain="secret"))
    with pytest.raises(RegistryError, match=r"kazoo\[sasl\]"):
        connect(PLAIN.model_copy(update={"auth": auth}))


def test_tls_verifies_unless_told_otherwise() -> None:
    kazoo = Client(PLAIN.model_copy(update={"tls": Tls()})).kazoo
    assert (kazoo.use_ssl, kazoo.verify_certs, kazoo.check_hostname) == (True, True, True)
    kazoo = Client(PLAIN.model_copy(update={"tls": Tls(verify=False)})).kazoo
    assert (kazoo.use_ssl, kazoo.verify_certs, kazoo.check_hostname) == (True, False, False)


def refuse_logins(server: socket.socket) -> None:
    """A ZooKeeper that opens a session, and refuses the login that comes next."""
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        opened = struct.pack("!iiqi16s?", 0, 10_000, 1, 16, bytes(16), False)
        connection.sendall(struct.pack("!i", len(opened)) + opened)
        connection.recv(4096)
        refused = struct.pack("!iqi", -4, 1, -115)  # AuthFailed
        connection.sendall(struct.pack("!i", len(refused)) + refused)
        connection.recv(4096)


def test_a_login_that_is_refused_ends_the_session_for_good_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse_logins, args=(server,), daemon=True).start()
        hosts = f"127.0.0.1:{server.getsockname()[1]}"
        auth = ZookeeperAuth(user="kalinka", password=Secret(plain="secret"))
        client = Client(Zookeeper(hosts=hosts, auth=auth))
        assert client.failure is None, "it has not begun"
        client.start(timeout=None)
        assert wait_until(lambda: client.failure is not None, 20)
    assert str(client.failure) == f"ZooKeeper at {hosts} is given up: it refused the login"
    client.stop()
    assert client.failure is None, "it was ended on purpose"


def test_so_does_what_kazoo_did_not_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread ends with a traceback in the log, and nobody is told."""

    def unexpected(*_: Any) -> None:
        raise RuntimeError("xids do not match")

    client = Client(PLAIN)
    monkeypatch.setattr(client.kazoo._connection, "_connect", unexpected)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    client.start(timeout=None)
    assert wait_until(lambda: client.failure is not None, 20)
    assert str(client.failure) == "ZooKeeper at 127.0.0.1:1 is given up: the log says why"
    client.stop()


def test_a_server_that_is_not_there_is_tried_for_ever() -> None:
    client = connect(PLAIN, timeout=None)
    assert not wait_until(lambda: client.failure is not None, 0.3)
    client.stop()
