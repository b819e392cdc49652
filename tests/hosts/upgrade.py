"""A new version of Kalinka rolls over the hosts, instance by instance, under load. Nothing may be lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from kalinka_jms import __version__
from kalinka_jms.errors import LabError
from kalinka_jms.lab.backend import BackEnd
from kalinka_jms.lab.demo import NAMES
from kalinka_jms.lab.device import Device
from kalinka_jms.lab.ledger import Ledger, Verdict
from kalinka_jms.lab.traffic import Traffic
from kalinka_jms.lab.waiting import wait_until
from tests.hosts.hosts import ADDRESSES, BOOTSTRAP, BROKERS, METRICS, PATIENCE, nspawn

ROOT = Path(__file__).parents[2]
NEW = f"{__version__}.post1"


def wheel(into: Path) -> Path:
    """This very source as a wheel of the next version."""
    tree = into / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("kalinka_jms", "cli"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    init = tree / "kalinka_jms" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{__version__}"', f'"{NEW}"'))
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(into), str(tree))
    return into / f"kalinka-{NEW}-py3-none-any.whl"


def upgrade(say: Callable[[str], None], rate: float = 20.0) -> Verdict:
    """Roll the new version out while devices and a back end speak. Raises LabError when it does not come to run."""
    ledger = Ledger()
    devices = [Device(name, ledger) for name in NAMES]
    back_end = BackEnd(BOOTSTRAP, ledger)
    traffic = Traffic(ledger, devices, back_end, size=256)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="kalinka-upgrade-")))
        new = wheel(folder)
        stack.callback(back_end.close)
        for device in devices:
            stack.callback(device.close)
        stack.callback(traffic.halt)
        back_end.start()
        for device, broker in zip(devices, BROKERS, strict=True):
            device.join(broker)
        traffic.start(rate)
        say(f"rolling {NEW} out under load")
        playbook = ("ansible-playbook", "-e", f"artefacts_kalinka_wheel={new}", "kalinka-pub.yml", "kalinka-sub.yml")
        _run(*playbook, directory=ROOT / "ansible")
        traffic.stop()
        traffic.flush()
        wait_until(lambda: not ledger.missing(), PATIENCE)
    _check()
    return ledger.verdict()


def _check() -> None:
    """Every instance runs the new version."""
    for host in ADDRESSES:
        for service in METRICS:
            command = nspawn(
                "ssh", host, "systemctl", "show", "--property=ExecStart,ActiveState", f"kalinka-{service}@1"
            )
            if f"/kalinka-{NEW}-" not in command or "ActiveState=active" not in command:
                raise LabError(f"kalinka-{service}@1 on {host} does not run {NEW}: {command}")


def _run(*command: str, directory: Path | None = None) -> None:
    told = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if told.returncode:
        raise LabError(f"{command[0]} failed:\n{told.stdout[-4000:]}{told.stderr[-2000:]}")
