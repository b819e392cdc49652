"""Java and Maven on this machine, and the one command that installs them where they are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from kalinka_jms.errors import LabError

JAVA_MIN = 17
_RELEASE = Path("/etc/os-release")
_MACOS_JAVAS = ("/opt/homebrew/opt", "/usr/local/opt")


def java() -> str:
    """The path of a Java that the servers run on; raises LabError with the command that installs one."""
    found = [(path, version) for path in _candidates() if (version := java_version(path))]
    for path, version in found:
        if version >= JAVA_MIN:
            return path
    seen = f"only Java {max(version for _, version in found)} is here" if found else "Java is missing"
    raise LabError(f"the lab's servers need Java {JAVA_MIN} or newer, and {seen}. Install it:\n  {install_command()}")


def maven() -> str:
    """The path of Maven; raises LabError with the command that installs it."""
    if path := shutil.which("mvn"):
        return path
    raise LabError(f"the lab fetches its servers with Maven, which is missing. Install it:\n  {install_command()}")


def java_version(path: str) -> int | None:
    """The major version of a `java`, None where it does not run."""
    try:
        told = subprocess.run([path, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else None


def install_command() -> str:
    """What to type on this system so that Java and Maven are there."""
    command = "brew install openjdk maven" if sys.platform == "darwin" else linux_command(os_release())
    root = sys.platform == "darwin" or (hasattr(os, "geteuid") and os.geteuid() == 0)
    return command if root else command.replace("&& ", "&& sudo ").join(("sudo ", ""))


def linux_command(release: dict[str, str]) -> str:
    """The same for a Linux described by its os-release, as root."""
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if family & {"debian", "ubuntu"}:
        return f"apt-get update && apt-get install -y {debian_java(release)} maven"
    if family & {"fedora", "rhel", "centos"}:
        return "dnf install -y java-21-openjdk-headless maven"
    if family & {"suse", "opensuse"}:
        return "zypper install -y java-21-openjdk-headless maven"
    if "arch" in family:
        return "pacman -S --noconfirm jre21-openjdk-headless maven"
    if "alpine" in family:
        return "apk add openjdk21-jre-headless maven"
    return f"install a Java runtime, version {JAVA_MIN} or newer, and Maven"


def debian_java(release: dict[str, str]) -> str:
    """The package: `default-jre-headless` is Java 17 or newer from Debian 12 and Ubuntu 24.04 on."""
    major = int(release.get("VERSION_ID", "99").partition(".")[0] or 99)
    old = major < 24 if release.get("ID") == "ubuntu" else release.get("ID") == "debian" and major < 12
    return "openjdk-17-jre-headless" if old else "default-jre-headless"


def os_release() -> dict[str, str]:
    """/etc/os-release as a mapping; empty where there is none."""
    if not _RELEASE.exists():
        return {}
    pairs = (line.split("=", 1) for line in _RELEASE.read_text().splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


def _candidates() -> list[str]:
    home = os.environ.get("JAVA_HOME")
    named = [str(Path(home) / "bin/java")] if home else []
    kegs = [str(java) for root in _MACOS_JAVAS for java in sorted(Path(root).glob("openjdk*/bin/java"), reverse=True)]
    on_path = shutil.which("java")
    return [*named, *([on_path] if on_path else []), *kegs]
