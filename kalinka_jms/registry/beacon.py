"""Says in ZooKeeper where an instance serves its metrics, for `kalinka status`.

Znodes: `<root's parent>/instances/<instance>`, ephemeral, with the address as JSON.
"""

from __future__ import annotations

import json
import logging
import posixpath
import socket
import threading
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError

from kalinka_jms.errors import RegistryError
from kalinka_jms.registry.zookeeper import Ensemble

log = logging.getLogger("kalinka.registry")

PERIOD = 5.0
"""Seconds between looks whether it still says so (a session that was lost takes it away), and for an answer."""

ANYWHERE = ("0.0.0.0", "::")


class Beacon:
    """A thread that keeps one znode there."""

    def __init__(self, client: Ensemble, root: str, address: tuple[str, int], services: Sequence[str]) -> None:
        host, port = address
        host = socket.gethostname() if host in ANYWHERE else f"[{host}]" if ":" in host else host
        self._client = client
        self._path = f"{_folder(root)}/{uuid.uuid4().hex}"
        self._data = json.dumps({"metrics": f"{host}:{port}", "services": list(services)}).encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacon", daemon=True)
        self.start = self._thread.start

    def stop(self) -> None:
        """Say so no more; the znode goes with the session."""
        self._over.set()
        self._thread.join()

    def say(self) -> None:
        """Once, if ZooKeeper answers."""
        if not self._client.connected:
            return
        try:
            self._client.gather([self._create], PERIOD, NodeExistsError)
        except RegistryError as error:
            log.debug("where metrics are served is not told: %s", error)

    def _run(self) -> None:
        wait = 0.0
        while not self._over.wait(wait):
            connected = self._client.connected
            self.say()
            wait = PERIOD if connected else 0.2

    def _create(self, kazoo: Any) -> Any:
        return kazoo.create_async(self._path, self._data, ephemeral=True, makepath=True)


def addresses(client: Ensemble, root: str, timeout: float) -> list[str]:
    """Where instances say that they serve their metrics, sorted. Raises RegistryError."""
    folder = _folder(root)
    (names,) = client.gather([partial(_children, folder)], timeout, NoNodeError)
    answers = client.gather([partial(_data, f"{folder}/{name}") for name in names or ()], timeout, NoNodeError)
    return sorted({found for answer in answers if answer is not None and (found := _address(answer[0]))})


def _folder(root: str) -> str:
    return f"{posixpath.dirname(root)}/instances"


def _address(data: bytes) -> str:
    try:
        document = json.loads(data)
    except ValueError:
        return ""
    address = document.get("metrics") if isinstance(document, dict) else None
    return address if isinstance(address, str) else ""


def _children(path: str, kazoo: Any) -> Any:
    return kazoo.get_children_async(path)


def _data(path: str, kazoo: Any) -> Any:
    return kazoo.get_async(path)
