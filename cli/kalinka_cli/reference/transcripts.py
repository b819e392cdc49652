"""Real runs of commands, kept in docs/transcripts: `$ command` lines, each with what it printed below it.

Those in OFFLINE need no server: they are run again with every `make docs`. The others were recorded on the lab.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

OFFLINE = ("broker-config", "config-check", "explain", "lab-config", "route-try")
"""Names of the files whose commands are run in docs/transcripts, where their configurations are."""

_CODE = "import sys; from kalinka_cli.main import main; sys.argv[0] = 'kalinka'; sys.exit(main())"


def every(docs: Path) -> list[Path]:
    """All transcripts."""
    return sorted((docs / "transcripts").glob("*.txt"))


def offline(docs: Path) -> list[Path]:
    """Those that are run again."""
    return [path for path in every(docs) if path.stem in OFFLINE]


def record(path: Path) -> str:
    """Run the commands of a transcript again, and return it with what they print now."""
    commands = [line for line in path.read_text().splitlines() if line.startswith("$ ")]
    return "\n".join(f"{line}\n{_output(line.removeprefix('$ '), path.parent)}" for line in commands)


def _output(command: str, folder: Path) -> str:
    """What a command prints, and its exit code where that is not 0. Raises ValueError for another program."""
    name, *args = shlex.split(command)
    if name != "kalinka":
        raise ValueError(f"not a command of kalinka: {command}")
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *args],
        cwd=folder,
        env=os.environ | {"COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + (f"(exit code {done.returncode})\n" if done.returncode else "")
