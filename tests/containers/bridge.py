"""Kalinka's services, each instance in a container: started, killed and stopped as in real life."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

from kalinka_jms.lab.instances import Instance, Instances

IMAGE = os.environ.get("KALINKA_IMAGE", "kalinka:latest")


class ContainerInstance(Instance):
    """The process is `docker run`, which passes signals on; only SIGKILL has to be meant for the container."""

    def __init__(self, service: str, name: str, config: Path, log: Path) -> None:
        self.container = f"kalinka-test-{name}-{uuid.uuid4().hex[:8]}"
        mount = f"{config}:/etc/kalinka/kalinka.toml:ro"
        command = ["docker", "run", "--rm", "--network=host", "--read-only", "--cap-drop=ALL"]
        command += ["--security-opt=no-new-privileges", f"--name={self.container}", f"--volume={mount}", IMAGE]
        super().__init__(service, name, [*command, service, "--config", "/etc/kalinka/kalinka.toml"], log)

    def kill(self) -> None:
        subprocess.run(["docker", "kill", self.container], capture_output=True, check=False)
        super().kill()


class Containers(Instances):
    """`Instances`, as containers of the image under test."""

    def _start(self, service: str) -> Instance:
        name = f"{service}-{sum(instance.service == service for instance in self.all) + 1}"
        instance = ContainerInstance(service, name, self.config, self.logs / f"{name}.log")
        self.all.append(instance)
        return instance
