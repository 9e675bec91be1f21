"""A small deployment of real processes: two `http.server`s under the real supervisord, in a temporary artifacts folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVICES = """
[first]
about = "a stand-in for the model server"
command = ["{python}", "-m", "http.server", "{{REST_PORT}}", "--bind", "127.0.0.1"]
ports = ["REST_PORT"]
health = "http://127.0.0.1:{{REST_PORT}}/"
within_s = 60
restart_on = ["{folder}/first"]
reloads = ["{folder}/watched"]
addresses = ["http://127.0.0.1:{{REST_PORT}}"]
try = "curl http://127.0.0.1:{{REST_PORT}}/"

[second]
about = "a stand-in for the device"
command = ["{python}", "-m", "http.server", "{{EDGE_PORT}}", "--bind", "127.0.0.1"]
ports = ["EDGE_PORT"]
health = "http://127.0.0.1:{{EDGE_PORT}}/"
within_s = 60
addresses = ["http://127.0.0.1:{{EDGE_PORT}}"]
try = "curl http://127.0.0.1:{{EDGE_PORT}}/"
"""


@dataclass
class Deployment:
    """``python -m deploy`` with its own services, ports and artifacts folder."""

    folder: Path
    ports: dict[str, int]
    services: Path

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def environment(self, **more: str) -> dict[str, str]:
        ports = {name: str(number) for name, number in self.ports.items()}
        return {**os.environ, **ports, "ARTIFACTS": str(self.artifacts), **more}

    def run(self, action: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deploy", action, "--services", str(self.services)]
        return subprocess.run(
            command, cwd=REPOSITORY, env=self.environment(**environment), capture_output=True, text=True, timeout=120
        )

    def pids(self) -> dict[str, int]:
        """The pid that `status` shows for each service."""
        rows = [line.split() for line in self.run("status").stdout.splitlines()[2:]]
        return {row[0]: int(row[2]) for row in rows if row and row[2].isdigit()}

    def processes(self) -> list[psutil.Process]:
        """Everything that carries this deployment's mark, the supervisor included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("EXPORT_ONCE_DEPLOYMENT") == str(self.artifacts):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def supervisor(self) -> psutil.Process:
        return psutil.Process(int((self.artifacts / "run" / "supervisord.pid").read_text()))


@pytest.fixture
def make_deployment(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Deployment]]:
    made: list[Deployment] = []

    def make(folder: Path = tmp_path, services: str = SERVICES) -> Deployment:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "services.toml"
        path.write_text(services.format(python=sys.executable, folder=folder))
        ports = {"REST_PORT": free_port(), "EDGE_PORT": free_port()}
        made.append(Deployment(folder, ports, path))
        return made[-1]

    yield make
    for deployment in made:
        for process in deployment.processes():
            process.kill()


@pytest.fixture
def deployment(make_deployment: Callable[..., Deployment]) -> Deployment:
    return make_deployment()
