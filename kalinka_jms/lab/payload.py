"""The payload of lab traffic: small, readable, and enough to judge its delivery by."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = b"kalinka"
_NUMBERS = re.compile(rb"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Payload:
    """What a message of lab traffic says about itself: its number, and when it was sent (ns, wall clock)."""

    run: str
    source: str
    destination: str
    number: int
    at: int

    def encode(self, size: int = 0) -> bytes:
        """The payload as one line of tab-separated text, padded with dots to `size` bytes (never cut)."""
        fields = (self.run, self.source, self.destination, str(self.number), str(self.at))
        return b"\t".join((_MARK, *(field.encode() for field in fields), b"")).ljust(size, b".")

    @classmethod
    def decode(cls, body: bytes) -> Payload | None:
        """The payload in `body`, or None where it is not lab traffic."""
        parts = body.split(b"\t", 6)
        if len(parts) != 7 or parts[0] != _MARK or not all(map(_NUMBERS.fullmatch, parts[4:6])):
            return None
        try:
            run, source, destination = (part.decode() for part in parts[1:4])
        except UnicodeDecodeError:
            return None
        return cls(run, source, destination, int(parts[4]), int(parts[5]))
