"""The machine of a run: what its figures depend on, and nothing that names it."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import confluent_kafka

from kalinka_jms import __version__
from kalinka_jms.lab import jars
from tests.bench.peers import camel

_MODEL = re.compile(r"^model name\s*:\s*(.*)$", re.MULTILINE)
_MEMORY = re.compile(r"^MemTotal:\s*(\d+) kB", re.MULTILINE)


def describe() -> dict[str, str]:
    """Cores, memory and versions."""
    return {
        "cores": f"{os.cpu_count()} ({_processor()})",
        "memory": f"{_memory():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "Kalinka": __version__,
        "stomp.py": version("stomp.py"),
        "confluent-kafka": f"{version('confluent-kafka')} (librdkafka {confluent_kafka.libversion()[0]})",
        "ActiveMQ": jars.versions()["activemq"]["activemq.version"],
        "Kafka": jars.versions()["kafka"]["kafka.version"],
        "Camel": camel.version(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    match = _MODEL.search(path.read_text()) if path.exists() else None
    return match[1].strip() if match else platform.machine()


def _memory() -> float:
    path = Path("/proc/meminfo")
    match = _MEMORY.search(path.read_text()) if path.exists() else None
    return int(match[1]) / 2**20 if match else 0.0
