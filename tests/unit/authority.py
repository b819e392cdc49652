"""Certificates of the tests' own, made by the `openssl` command."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.ca = home / "ca.pem"
        self._openssl("req", "-x509", *self._new("ca"), "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")

    def issue(self, name: str, san: str, *, password: str | None = None) -> tuple[str, str]:
        """Make a certificate; return the paths of it and of its key."""
        (self.home / "san").write_text(f"subjectAltName={san}\n")
        self._openssl("req", *self._new(name, password), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
        return str(self.home / f"{name}.pem"), str(self.home / f"{name}.key")

    def _new(self, name: str, password: str | None = None) -> tuple[str, ...]:
        secrecy = ("-passout", f"pass:{password}") if password else ("-nodes",)
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", f"{name}.key", *secrecy)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.home, check=True, capture_output=True)
