"""The lab and the configuration of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout, Profile, default_state, parse_address

ADDRESS = "127.0.63.20"


def layout(profile: Profile, delivery: str) -> Layout:
    """Apart from the user's own lab. KALINKA_TEST_LAB takes other addresses, KALINKA_LAB_STATE another directory."""
    address = parse_address(os.environ.get("KALINKA_TEST_LAB") or ADDRESS)
    given = "KALINKA_LAB_STATE" in os.environ
    state = default_state() if given else default_state().parent / f"chaos-{profile}-{address}"
    return Layout(state, profile, address, delivery_device=delivery == "device")


@contextmanager
def opened(layout: Layout, say: Callable[[str], None]) -> Iterator[Lab]:
    """A lab that is up; an empty one, and down again afterwards, unless it was up before."""
    lab = Lab(layout, say)
    was_up = any(status.pid for status in lab.status())
    if not was_up:
        lab.down(wipe=True)
    try:
        lab.up()
        yield Lab(layout)  # that tells nothing
    finally:
        if not was_up:
            lab.down(wipe=True)


def write_config(lab: Lab, folder: Path, delivery: str, zookeeper: Sequence[tuple[str, int]]) -> Path:
    """The lab's configuration, as the bounds suppose it, with ZooKeeper behind proxies."""
    hosts = ",".join(f"{host}:{port}" for host, port in zookeeper)
    path = folder / "chaos.toml"
    path.write_text(lab.config(delivery).replace(lab.layout.zookeeper, hosts))
    return path
