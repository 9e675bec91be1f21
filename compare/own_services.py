"""Services of one's own: the commands of the deployment on free ports, over other artefacts, for as long as needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.health import trouble
from deploy.services import Service, load_services
from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PORTS = ("GRPC_PORT", "REST_PORT", "EDGE_PORT", "WEB_PORT")


@contextlib.contextmanager
def own_services(names: Sequence[str], *, root: Path, within_s: float = 30) -> Iterator[dict[str, str]]:
    """Start the services ``names`` over the artefacts in ``root``; yields why a service is not well, by name.

    Meanwhile ARTIFACTS and the ports are set in this process's environment, so that targets and processes started here
    ask these services and not the deployed ones.
    """
    before = dict(os.environ)
    os.environ.update({"ARTIFACTS": str(root), **{name: str(number) for name, number in _free_ports().items()}})
    try:
        with contextlib.ExitStack() as stack:
            services = [service for service in load_services() if service.name in names]
            started = [(service, stack.enter_context(_running(service))) for service in services]
            deadline = time.monotonic() + within_s
            yield {s.name: reason for s, (process, log) in started if (reason := _wait(s, process, log, deadline))}
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def running_command(command: Sequence[str], *, log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, its output in ``log``; the whole group is ended on the way out."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen) -> None:
    """Ask the group of ``process`` to end, then make it."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


@contextlib.contextmanager
def _running(service: Service) -> Iterator[tuple[subprocess.Popen | None, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        if not (REPOSITORY / service.command[0]).is_file():
            yield None, log
            return
        with running_command(service.command, log=log, environment=dict(os.environ)) as process:
            yield process, log


def _wait(service: Service, process: subprocess.Popen | None, log: Path, deadline: float) -> str:
    """Until ``service`` is healthy: an empty text, or why it is not."""
    if process is None:
        return f"{service.command[0]} is not installed; run `make deploy-all` once"
    while True:
        problem = trouble(service)
        if not problem:
            return ""
        if process.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            return f"{service.name} did not start: {lines[-1] if lines else f'exit code {process.returncode}'}"
        if time.monotonic() > deadline or "no version is loaded" in problem:
            return f"{service.name} is not ready: {problem}"
        time.sleep(0.1)


def _free_ports() -> dict[str, int]:
    """Different free ports: all are held open until all are chosen."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in zip(PORTS, probes, strict=True)}
