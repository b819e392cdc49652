"""TLS to a server, as the settings say it."""

from __future__ import annotations

import ssl

from pydantic import Field, model_validator

from kalinka_jms.config.fields import PemFile, SecretValue, Switch
from kalinka_jms.config.table import Table


class Tls(Table):
    """How to trust a server, and (mTLS) how to prove who we are. Without `ca` the system's authorities count."""

    ca: PemFile | None = Field(default=None, description="the path of a PEM file with the authorities to trust")
    """Whom to trust, where that is not the system's authorities."""
    cert: PemFile | None = Field(default=None, description="the path of a PEM file with our certificate")
    """Our certificate, where the server wants one (mTLS)."""
    key: PemFile | None = Field(default=None, description="the path of a PEM file with the key of our certificate")
    """Its key, where it is not in the same file."""
    key_password: SecretValue | None = Field(default=None, description="a secret")
    """What opens the key."""
    verify: Switch = Field(default=True, description="true, or false to trust any server (for a test only)")
    """Whether the server must prove its name and have a certificate of a trusted authority."""

    @model_validator(mode="after")
    def _loads(self) -> Tls:
        if self.key and not self.cert:
            raise ValueError("has a key but no cert")
        self.context()
        return self

    def context(self) -> ssl.SSLContext:
        """A client's TLS context, from the files as they are now. Raises ValueError when they do not fit."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                password = self.key_password.read() if self.key_password else ""
                context.load_cert_chain(self.cert, self.key, password)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"ca, cert, key and key_password do not fit together: {error}") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
