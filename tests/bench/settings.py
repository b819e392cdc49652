"""Configurations for a run: the lab's, with other brokers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.topics import GROUP

_ROOT = 'root = "/kalinka/devices"'


def write(lab: Lab, path: Path, addresses: Sequence[str], root: str = "/bench/devices") -> Path:
    """The lab's configuration for brokers b0, b1, … at these STOMP addresses (host:port), and a registry of its own."""
    text = lab.config()
    brokers = "".join(
        f'[[brokers]]\nname = "b{number}"\nstomp = "stomp://{address}"\ngroup = "{GROUP}"\n\n'
        for number, address in enumerate(addresses)
    )
    rest = text[text.index("[kafka]") :]
    assert _ROOT in rest
    path.write_text(brokers + rest.replace(_ROOT, f'root = "{root}"'))
    return path
