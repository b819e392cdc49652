"""What hosts without the Internet need, as archives made once on this machine: the servers' jars, Kalinka's wheels.

python -m kalinka_jms.lab.artefacts --into DIRECTORY      # prints, as JSON, which archives those are, and if one is new

An archive's name says exactly what is in it, so that one of that name is never made again. The playbooks call this.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from kalinka_jms import __version__
from kalinka_jms.errors import KalinkaError, LabError
from kalinka_jms.lab import jars
from kalinka_jms.lab.layout import Kind

SOURCE = Path(__file__).resolve().parents[2]
"""The source tree of Kalinka, where this runs from one."""

COMPLETE = ".complete"
"""The last member of every archive, an empty file: where it is, all of the others are."""

_PARTS = ("pyproject.toml", "README.md", "LICENSE", "kalinka_jms", "cli")


def servers(into: Path) -> tuple[dict[str, str], bool]:
    """The archives with each server's jars, by server; True when one was made now. Raises LabError."""
    made: dict[str, str] = {}
    new = False
    for kind in get_args(Kind):
        directory = jars.fetch(kind, _tell)
        target = into / f"{directory.name}.tar"
        new |= _once(target, partial(_pack, files=sorted(directory.iterdir())))
        made[kind] = str(target)
    return made, new


def wheels(into: Path, wheel: Path | None, python: str, machine: str) -> tuple[str, bool]:
    """The archive with the wheels of Kalinka and all it needs, for that Python on that kind of Linux machine.

    `wheel` is Kalinka itself; without it the source tree is built. True when it was made now. Raises LabError.
    """
    name = wheel.name.split("-py3")[0] if wheel else f"kalinka-{__version__}"
    stamp = _stamp([wheel] if wheel else _sources(), python, machine)
    target = into / f"{name}-{stamp}.tar"
    return str(target), _once(target, lambda target: _gather(target, wheel, python, machine))


def _once(target: Path, make: Callable[[Path], None]) -> bool:
    """Make a file that appears complete or not at all; False when it is there already."""
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as directory:
        half = Path(directory) / target.name
        make(half)
        half.replace(target)
    return True


def _pack(target: Path, files: Iterable[Path]) -> None:
    with tarfile.open(target, "w") as archive:  # jars and wheels are compressed already
        for file in files:
            archive.add(file, file.name, filter=_plain)
        archive.addfile(tarfile.TarInfo(COMPLETE))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's own: the same archive whoever makes it."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


def _sources() -> list[Path]:
    if not (SOURCE / "pyproject.toml").exists():
        raise LabError(f"{SOURCE} is not Kalinka's source tree: name the wheel to deploy with --wheel")
    found = [file for part in _PARTS for file in ([SOURCE / part] if "." in part else (SOURCE / part).rglob("*"))]
    return sorted(file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _stamp(files: Iterable[Path], *words: str) -> str:
    digest = hashlib.sha256(" ".join(words).encode())
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _gather(target: Path, wheel: Path | None, python: str, machine: str) -> None:
    _tell(f"gathering the wheels for Python {python} on {machine}")
    with TemporaryDirectory(dir=target.parent) as directory:
        if wheel is None:
            _pip("wheel", "--no-deps", "--wheel-dir", directory, str(SOURCE))
            (wheel,) = Path(directory).glob("kalinka-*.whl")
        platforms = [f"--platform=manylinux{one}_{machine}" for one in ("2014", "_2_17", "_2_28")]
        where = ("--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms)
        _pip("download", *where, "--dest", directory, f"{wheel}[sasl]")
        _pack(target, sorted(Path(directory).glob("*.whl")))


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if told.returncode:
        raise LabError(f"pip {arguments[0]} failed:\n{told.stdout}{told.stderr}".rstrip())


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Archives for hosts without the Internet.")
    parser.add_argument("--into", type=Path, required=True, help="the directory for the archives")
    parser.add_argument("--wheel", type=Path, help="Kalinka's own wheel; without it the source tree is built")
    parser.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="the hosts' Python")
    parser.add_argument("--machine", default="x86_64", help="the hosts' processors: x86_64 or aarch64")
    given = parser.parse_args(arguments)
    try:
        archives, new = servers(given.into)
        archives["kalinka"], built = wheels(given.into, given.wheel, given.python, given.machine)
    except KalinkaError as error:
        print(f"kalinka: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"changed": new or built, "archives": archives}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
