"""A small deployment of real processes: two `http.server`s under the real supervisord, in a temporary artifacts folder."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from deploy.__main__ import main
from tests.commands import run_command
from tests.conftest import pick_free_port

if TYPE_CHECKING:
    import subprocess
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

    def settings(self) -> dict[str, str]:
        """What it adds to the environment."""
        return {name: str(number) for name, number in self.ports.items()} | {"ARTIFACTS": str(self.artifacts)}

    def command(self, action: str) -> list[str]:
        """As a process of its own, which is to run with ``environment``."""
        return [sys.executable, "-m", "deploy", action, "--services", str(self.services)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.settings()}

    def run(self, action: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """In the tests' own process; what it starts are processes all the same."""
        return run_command(main, action, "--services", self.services, **(self.settings() | environment))

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


@contextlib.contextmanager
def new_deployments() -> Iterator[Callable[..., Deployment]]:
    """``make(folder, services=…)`` prepares one in ``folder``; whatever is left of them is killed at the end."""
    made: list[Deployment] = []

    def make(folder: Path, services: str = SERVICES) -> Deployment:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "services.toml"
        path.write_text(services.format(python=sys.executable, folder=folder))
        made.append(Deployment(folder, {name: pick_free_port() for name in ("REST_PORT", "EDGE_PORT")}, path))
        return made[-1]

    try:
        yield make
    finally:
        for deployment in made:
            for process in deployment.processes():
                process.kill()
