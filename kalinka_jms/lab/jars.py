"""The servers' jars: fetched once by Maven, kept in the user's cache under a name that says exactly what they are."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp

from kalinka_jms.errors import LabError
from kalinka_jms.lab.layout import Kind
from kalinka_jms.lab.toolchain import maven

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_DOWNLOADED = re.compile(r"Downloaded from .* \(([\d.]+) (B|kB|MB) at ")
_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6}
Say = Callable[[str], None]


def fetch(kind: Kind, say: Say) -> Path:
    """The directory with a server's jars, fetched now if it is not there yet.

    It appears complete or not at all, so an interrupted download is simply begun again, and of two processes one
    waits for the other. Raises LabError when Maven is missing or fails.
    """
    target = cache() / _name(kind)
    if target.is_dir():
        return target
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with _alone():
            if not target.is_dir():
                _download(kind, target, say)
    except OSError as error:
        raise LabError(f"cannot keep the servers in {cache()}: {error}") from error
    return target


def versions() -> dict[str, dict[str, str]]:
    """The versions of everything, by server (versions.toml)."""
    return tomllib.loads((files(__package__) / "versions.toml").read_text())


def cache() -> Path:
    """Where jars are kept: kalinka/jars in the user's cache directory (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "kalinka" / "jars"


def _name(kind: Kind) -> str:
    numbers = versions()[kind]
    stamp = hashlib.sha256((_pom(kind) + repr(sorted(numbers.items()))).encode()).hexdigest()[:8]
    return f"{kind}-{numbers[f'{kind}.version']}-{stamp}"


def _pom(kind: Kind) -> str:
    return (files(__package__) / "poms" / f"{kind}.xml").read_text()


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time; the lock is on the directory itself and ends with its holder."""
    handle = os.open(cache(), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _download(kind: Kind, target: Path, say: Say) -> None:
    for left in cache().glob(".fetch-*"):  # of an interrupted one: the lock is ours, so nobody works in it
        shutil.rmtree(left, ignore_errors=True)
    work = Path(mkdtemp(prefix=".fetch-", dir=cache()))
    (work / "pom.xml").write_text(_pom(kind))  # a copy: Maven writes beside it
    say(f"fetching {kind} {versions()[kind][f'{kind}.version']} with Maven (once)")
    _maven(kind, work, say)
    (work / "jars").rename(target)
    shutil.rmtree(work)


def _maven(kind: Kind, work: Path, say: Say) -> None:
    command = [maven(), "-B", "-f", str(work / "pom.xml"), _COPY, "-DincludeScope=runtime"]
    command += [f"-DoutputDirectory={work / 'jars'}", *(f"-D{key}={value}" for key, value in versions()[kind].items())]
    printed: list[str] = []
    progress = _Progress(kind, say)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=work
    ) as child:
        for line in child.stdout or ():
            printed.append(line.rstrip())
            progress.read(line)
    if child.returncode:
        errors = [line for line in printed if "ERROR" in line] or printed
        raise LabError("\n".join([f"Maven could not fetch {kind}:", *errors[:5]]))


class _Progress:
    """Tells how far Maven is, at most once a second, from what it prints of every file that it has downloaded."""

    def __init__(self, kind: Kind, say: Say) -> None:
        self._kind, self._say = kind, say
        self._files, self._bytes, self._told = 0, 0.0, time.monotonic()

    def read(self, line: str) -> None:
        """Take a line of Maven's."""
        if not (match := _DOWNLOADED.search(line)):
            return
        self._files += 1
        self._bytes += float(match[1]) * _UNITS[match[2]]
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._say(f"  {self._kind}: {self._files} files, {self._bytes / 1e6:.1f} MB")
