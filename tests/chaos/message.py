"""A message of the load: which stream it belongs to, and its number in it."""

from __future__ import annotations

from typing import NamedTuple

BACK_END = "sparkcluster"
KAFKA = "kafka"


class Stream(NamedTuple):
    """What keeps its order: the messages of one source to one destination through one broker (or Kafka)."""

    source: str
    destination: str
    via: str

    def __str__(self) -> str:
        return f"{self.source} → {self.destination} by {self.via}"


def encode(run: str, stream: Stream, number: int, size: int) -> bytes:
    """The payload, padded to `size` bytes."""
    return f"{run}\t{stream.source}\t{stream.destination}\t{stream.via}\t{number}\t".ljust(size, ".").encode()


def decode(run: str, body: bytes) -> tuple[Stream, int] | None:
    """The stream and the number; None where the payload is not of this run."""
    parts = body.split(b"\t", 5)
    if len(parts) != 6 or parts[0] != run.encode():
        return None
    return Stream(parts[1].decode(), parts[2].decode(), parts[3].decode()), int(parts[4])
