"""`/metrics`, `/healthz` and `/readyz` over HTTP, from threads of their own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.registry import CollectorRegistry

from kalinka_jms.errors import ConfigError, Problem
from kalinka_jms.health import Health, Verdict

OPTION = "--metrics"
PATIENCE = 10.0
"""Seconds a client may take to say what it wants, and to read the answer."""

Start = Callable[[str, list[tuple[str, str]]], Any]


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPv6]:PORT`; port 0 takes a free one. Raises ConfigError."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
        fits = not (parts.path or parts.query or parts.fragment or "@" in text)
    except ValueError:
        host, port, fits = None, None, False
    if not host or port is None or not fits:
        remedy = 'should be HOST:PORT, like "127.0.0.1:9464", or "0.0.0.0:9464" for every address of this host'
        raise ConfigError("the command line", (Problem(OPTION, repr(text), remedy),))
    return host, port


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request; none of them keeps the process."""

    daemon_threads = True

    def server_bind(self) -> None:
        """As the library's, which would ask the name servers for the name of the address."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a scrape every few seconds is normal operation."""


@contextmanager
def serving(address: tuple[str, int], health: Health, registry: CollectorRegistry) -> Iterator[tuple[str, int]]:
    """Serve what the registry collects, until the end of the context; its value is the address that was taken.

    Raises ConfigError where it cannot be.
    """
    server = _bound(address, _app(registry, health))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_name, server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _bound(address: tuple[str, int], app: Callable[..., Any]) -> WSGIServer:
    host, port = address
    kind = _ServerV6 if ":" in host else _Server
    try:
        return make_server(host, port, app, kind, _Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        remedy = f"this address cannot be taken: {why}; every instance needs a port of its own"
        raise ConfigError("the command line", (Problem(OPTION, f"{host}:{port}", remedy),)) from error


def _app(registry: CollectorRegistry, health: Health) -> Callable[[dict[str, Any], Start], Iterable[bytes]]:
    metrics: Callable[[dict[str, Any], Start], Iterable[bytes]] = make_wsgi_app(registry)
    verdicts = {"/healthz": health.healthy, "/readyz": health.ready}

    def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _answer(start, "405 Method Not Allowed", b"GET only\n")
        if path == "/metrics":
            return metrics(environ, start)
        if path in verdicts:
            return _told(start, verdicts[path]())
        return _answer(start, "404 Not Found", b"/metrics, /healthz, /readyz\n")

    return app


def _told(start: Start, verdict: Verdict) -> Iterable[bytes]:
    body = json.dumps({"ok": verdict.yes, "services": verdict.services}, indent=2).encode() + b"\n"
    return _answer(start, "200 OK" if verdict.yes else "503 Service Unavailable", body, "application/json")


def _answer(start: Start, status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
    return [body]
