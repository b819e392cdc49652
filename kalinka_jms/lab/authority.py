"""Certificates of one's own, made by the `openssl` command: for a lab, and for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

DAYS = "2"
"""How long what it makes is valid."""


class Authority:
    """A certificate authority in a directory, which it makes."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.ca = home / "ca.pem"
        self._openssl("req", "-x509", *self._new("ca"), "-out", "ca.pem", "-subj", "/CN=test authority", "-days", DAYS)

    def issue(self, name: str, san: str, *, password: str | None = None) -> tuple[str, str]:
        """Make a certificate for `san` (`IP:127.0.0.1`, `DNS:localhost`); return the paths of it and of its key."""
        (self.home / "san").write_text(f"subjectAltName={san}\n")
        self._openssl("req", *self._new(name, password), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS, "-extfile", "san")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
        return str(self.home / f"{name}.pem"), str(self.home / f"{name}.key")

    def store(self, name: str, san: str, password: str) -> Path:
        """The same as a PKCS#12 store, as Java reads it; its path."""
        certificate, key = self.issue(name, san)
        path = self.home / f"{name}.p12"
        files = ("-in", certificate, "-inkey", key, "-out", str(path))
        self._openssl("pkcs12", "-export", *files, "-passout", "env:STORE", "-name", name, STORE=password)
        return path

    def bundle(self, name: str, san: str) -> Path:
        """The same as one PEM file with the key first, as Kafka and ZooKeeper read it; its path."""
        certificate, key = self.issue(name, san)
        path = self.home / f"{name}.both.pem"
        path.write_text(Path(key).read_text() + Path(certificate).read_text())
        return path

    def _new(self, name: str, password: str | None = None) -> tuple[str, ...]:
        secrecy = ("-passout", f"pass:{password}") if password else ("-nodes",)
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", f"{name}.key", *secrecy)

    def _openssl(self, *arguments: str, **secrets: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=self.home, check=True, capture_output=True, env=os.environ | secrets)
