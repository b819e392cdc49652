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
from tests.hosts.hosts import ADDRESSES, BOOTSTRAP, BROKERS, INSTANCES, METRICS, PATIENCE, nspawn

ROOT = Path(__file__).parents[2]
NEW = f"{__version__}.post1"
VARIABLES = ROOT / "build" / "hosts" / "new.yml"
"""What `ansible-playbook -e @…` needs to deploy the new version (again)."""


def wheel(into: Path) -> Path:
    """This very source as a wheel of the next version, in that directory."""
    with TemporaryDirectory(prefix="kalinka-upgrade-") as directory:
        tree = Path(directory)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree)
        for name in ("kalinka_jms", "cli"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        init = tree / "kalinka_jms" / "__init__.py"
        init.write_text(init.read_text().replace(f'"{__version__}"', f'"{NEW}"'))
        _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(into), str(tree))
    return into / f"kalinka-{NEW}-py3-none-any.whl"


def upgrade(say: Callable[[str], None], rate: float = 10.0) -> Verdict:
    """Roll the new version out while devices and a back end speak. Raises LabError when it does not come to run."""
    VARIABLES.write_text(f"artefacts_kalinka_wheel: {wheel(VARIABLES.parent)}\n")
    ledger = Ledger()
    devices = [Device(name, ledger) for name in NAMES]
    back_end = BackEnd(BOOTSTRAP, ledger)
    traffic = Traffic(ledger, devices, back_end, size=256)
    with ExitStack() as stack:
        stack.callback(back_end.close)
        for device in devices:
            stack.callback(device.close)
        stack.callback(traffic.halt)
        back_end.start()
        for device, broker in zip(devices, BROKERS, strict=True):
            device.join(broker)
        traffic.start(rate)
        say(f"rolling {NEW} out under load")
        _run("ansible-playbook", "-e", f"@{VARIABLES}", "site.yml", directory=ROOT / "ansible")
        traffic.stop()
        traffic.flush()
        say(f"every host is done; {ledger.missing()} messages under way")
        wait_until(lambda: not ledger.missing(), PATIENCE)
    for host in ADDRESSES:
        _check(host)
    return ledger.verdict()


def _check(host: str) -> None:
    """Every instance on it runs the new version."""
    units = [f"kalinka-{service}@{number}" for service in METRICS for number in INSTANCES]
    told = nspawn("ssh", host, "systemctl", "show", "--property=ExecStart,ActiveState", *units).strip().split("\n\n")
    for unit, state in zip(units, told, strict=True):
        if f"/kalinka-{NEW}-" not in state or "ActiveState=active" not in state:
            raise LabError(f"{unit} on {host} does not run {NEW}: {state}")


def _run(*command: str, directory: Path | None = None) -> None:
    told = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if told.returncode:
        raise LabError(f"{command[0]} failed:\n{told.stdout[-4000:]}{told.stderr[-2000:]}")
