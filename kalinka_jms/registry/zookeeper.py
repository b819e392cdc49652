"""A session with ZooKeeper (kazoo): how it is opened, and a bounded number of requests in flight on it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, KazooException, SessionExpiredError
from kazoo.protocol.states import Callback, KeeperState
from kazoo.security import CREATOR_ALL_ACL

from kalinka_jms.config import Zookeeper
from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.handler import Handler

log = logging.getLogger("kalinka.zookeeper")

IN_FLIGHT = 100
"""Requests that kazoo holds at a time. It wakes its thread with a byte a request through a pair of sockets that is full
at 278 (tried on Linux), and while it is not connected nobody reads them: the next caller would block."""

RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 2.0}
"""Reconnect for ever, at most 2 seconds apart (kazoo's own default goes up to an hour)."""

ANSWER = 15.0
"""Seconds that a gathering may take; a session that is lost for longer is lost for its user too."""

State = Literal["CONNECTED", "SUSPENDED", "LOST"]
Done = Callable[[Any, "KazooException | None"], None]


class Ensemble(Protocol):
    """ZooKeeper, as the registry asks it: `Client`, and the fake of it."""

    @property
    def connected(self) -> bool: ...

    def listen(self, listener: Callable[[State], None]) -> Callable[[], None]: ...

    def ask(self, request: Callable[[Any], Any], done: Done, urgent: bool = False) -> None: ...

    def gather(
        self,
        requests: Sequence[Callable[[Any], Any]],
        timeout: float = ANSWER,
        tolerated: type[KazooException] | tuple[()] = (),
    ) -> list[Any]: ...


def connect(settings: Zookeeper, timeout: float | None = 15.0) -> Client:
    """Open a session, waiting up to `timeout` seconds for it; with None it comes up in the background.

    Raises RegistryError if it does not come up in time, ValueError if a secret cannot be read.
    """
    session = Client(settings)
    try:
        session.start(timeout)
    except BaseException:
        session.stop()
        raise
    return session


class Client:
    """One session. Requests that wait for a connection wait here, so that nobody who asks is ever blocked."""

    def __init__(self, settings: Zookeeper) -> None:
        self._settings = settings
        self._sasl: dict[str, str] = {}
        self._listeners: list[Callable[[State], None]] = []
        self._lock = threading.Lock()
        self._queues: tuple[deque[_Request], deque[_Request]] = (deque(), deque())
        self._in_flight = 0
        self._stopped, self._refused = True, False
        self.kazoo: Any = KazooClient(**self._options())
        self.kazoo.add_listener(self._changed)

    @property
    def connected(self) -> bool:
        """Whether ZooKeeper can be asked now."""
        return bool(self.kazoo.connected)

    @property
    def failure(self) -> RegistryError | None:
        """Why there will never be a session again, or None. kazoo's thread ends for good, and without a word, when
        ZooKeeper refuses the login, and by any exception that it does not expect."""
        routine = self.kazoo._connection._connection_routine
        if self._stopped or routine is None or routine.is_alive():
            return None
        cause = "it refused the login" if self._refused else "the log says why"
        return RegistryError(f"ZooKeeper at {self._settings.hosts} is given up: {cause}")

    def start(self, timeout: float | None = 15.0) -> None:
        """Connect; see `connect`."""
        up = self.kazoo.start_async()
        self._stopped = False
        if timeout is not None and not up.wait(timeout):
            raise RegistryError(f"ZooKeeper at {self._settings.hosts} cannot be reached within {timeout:g} s")

    def stop(self) -> None:
        """End the session: what it held (elections) is free at once."""
        self._stopped = True
        with contextlib.suppress(KazooException, OSError, AttributeError):
            self.kazoo.stop()
            self.kazoo.close()

    def listen(self, listener: Callable[[State], None]) -> Callable[[], None]:
        """Call `listener` with every new state, on kazoo's thread for watches; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def ask(self, request: Callable[[Any], Any], done: Done, urgent: bool = False) -> None:
        """Send `request(kazoo)` (something `…_async`) when there is room; `done(value, error)` on kazoo's thread.

        Never blocks. ConnectionLoss as the error means that nobody knows whether it happened.
        """
        with self._lock:
            self._queues[0 if urgent else 1].append(_Request(request, done))
        self._pump()

    def gather(
        self,
        requests: Sequence[Callable[[Any], Any]],
        timeout: float = ANSWER,
        tolerated: type[KazooException] | tuple[()] = (),
    ) -> list[Any]:
        """Send requests and wait for the values; None where the error is one that is tolerated.

        Asked again when the connection broke, so they must be harmless when carried out twice. Raises RegistryError.
        """
        gathering = _Gathering(self, requests)
        for number in range(len(requests)):
            gathering.ask(number)
        if requests and not gathering.done.wait(timeout):
            raise RegistryError(f"ZooKeeper did not answer within {timeout:g} s")
        error = next((error for error in gathering.errors if error and not isinstance(error, tolerated)), None)
        if error is not None:
            raise RegistryError(f"ZooKeeper refused: {error!r}") from error
        return gathering.values

    def _pump(self) -> None:
        while (request := self._next()) is not None:
            try:
                request.send(self.kazoo).rawlink(lambda result, done=request.done: self._answered(done, result))
            except Exception:  # a request that cannot even be made must not keep its place
                with self._lock:
                    self._in_flight -= 1
                raise

    def _next(self) -> _Request | None:
        with self._lock:
            queue = self._queues[0] or self._queues[1]
            if not queue or self._in_flight >= IN_FLIGHT or not self.kazoo.connected:
                return None
            self._in_flight += 1
            return queue.popleft()

    def _answered(self, done: Done, result: Any) -> None:
        with self._lock:
            self._in_flight -= 1
        try:
            done(result.value, result.exception)
        finally:
            self._pump()

    def _changed(self, state: str) -> None:
        # This is the thread that reads the pair of sockets: it must neither wait for a lock nor ask anything itself.
        if state != "CONNECTED":
            self._refresh()
        self._refused = self.kazoo.client_state == KeeperState.AUTH_FAILED
        log.info("ZooKeeper session %s", state.lower())
        self.kazoo.handler.dispatch_callback(Callback("session", self._tell, (state,)))

    def _tell(self, state: State) -> None:
        for listener in tuple(self._listeners):
            listener(state)
        self._pump()

    def _options(self) -> dict[str, Any]:
        settings, tls = self._settings, self._settings.tls
        options: dict[str, Any] = {
            "hosts": settings.hosts,
            "timeout": settings.session_timeout,
            "connection_retry": RETRY,
            "command_retry": RETRY,
            "handler": Handler(),
        }
        if tls:
            files = {"ca": tls.ca, "certfile": tls.cert, "keyfile": tls.key}
            options |= {name: str(path) for name, path in files.items() if path}
            options |= {"use_ssl": True, "verify_certs": tls.verify, "check_hostname": tls.verify}
            options["keyfile_password"] = tls.key_password.read() if tls.key_password else None
        return options | self._login()

    def _login(self) -> dict[str, Any]:
        auth = self._settings.auth
        if auth is None:
            return {}
        password = auth.password.read()
        if auth.scheme == "digest":
            return {"auth_data": [("digest", f"{auth.user}:{password}")], "default_acl": CREATOR_ALL_ACL}
        if importlib.util.find_spec("puresasl") is None:
            raise RegistryError('ZooKeeper with SASL needs one more package: pip install "kazoo[sasl]"')
        self._sasl.update(mechanism="DIGEST-MD5", username=auth.user, password=password)
        return {"sasl_options": self._sasl, "default_acl": CREATOR_ALL_ACL}

    def _refresh(self) -> None:
        """Read the secrets afresh, for the next connection."""
        try:
            login, tls = self._login(), self._settings.tls
            if tls and tls.key_password:
                self.kazoo.keyfile_password = tls.key_password.read()
        except ValueError as error:
            log.warning("the old secret stays in use: %s", error)
            return
        if "auth_data" in login:
            self.kazoo.auth_data = set(login["auth_data"])


class _Request:
    __slots__ = ("done", "send")

    def __init__(self, send: Callable[[Any], Any], done: Done) -> None:
        self.send = send
        self.done = done


class _Gathering:
    """The answers to several requests. They all come on one thread."""

    def __init__(self, client: Client, requests: Sequence[Callable[[Any], Any]]) -> None:
        self._client = client
        self._requests = requests
        self._open = len(requests)
        self.values: list[Any] = [None] * len(requests)
        self.errors: list[KazooException | None] = [None] * len(requests)
        self.done = threading.Event()

    def ask(self, number: int) -> None:
        self._client.ask(self._requests[number], partial(self._answered, number), urgent=True)

    def _answered(self, number: int, value: Any, error: KazooException | None) -> None:
        if unknown(error):
            self.ask(number)
            return
        self.values[number], self.errors[number] = value, error
        self._open -= 1
        if not self._open:
            self.done.set()


def unknown(error: KazooException | None) -> bool:
    """Whether it is not known if the request was carried out: it may be asked again when connected."""
    return isinstance(error, (ConnectionLoss, SessionExpiredError)) and not isinstance(error, ConnectionClosedError)
