"""Services of one's own: the commands of the deployment on free ports, over other artefacts, for as long as needed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.health import trouble
from deploy.ports import free_ports
from deploy.services import Service, load_services
from models.artifacts import REPOSITORY
from models.errors import DeployError
from serving.local import local_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_LIMIT_S = 120  # on a busy machine; it starts within a second on an idle one


@contextlib.contextmanager
def own_services(
    root: Path, *, serving: bool = True, edge: bool = True, flags: tuple[str, ...] = ()
) -> Iterator[dict[str, str]]:
    """Start a model server and an edge service over the artefacts in ``root``; yields why one is not well, by its name.

    ``flags`` are more of the model server's. Meanwhile ARTIFACTS and the ports of what was started are set in this process's environment, so that targets and
    processes started here ask these services and not the deployed ones.
    """
    before = dict(os.environ)
    os.environ["ARTIFACTS"] = str(root)
    try:
        with contextlib.ExitStack() as stack:
            unwell = {}
            if edge:
                os.environ["EDGE_PORT"] = str(free_ports(1)[0])
                process, log = stack.enter_context(_edge())
                deadline = time.monotonic() + START_LIMIT_S
            if serving:
                try:
                    server = stack.enter_context(local_server(root / "repository" / "models.config", flags=flags))
                    os.environ.update(server.environment())
                except (DeployError, OSError) as error:
                    unwell["serving"] = str(error)
            if edge and (reason := _wait(process, log, deadline)):
                unwell["edge"] = reason
            yield unwell
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def running_command(command: Sequence[str], *, log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, its output in ``log``; the whole group is ended on the way out."""
    process = None
    try:
        with log.open("w") as file, _undisturbed():
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        yield process
    finally:
        if process is not None:
            end_group(process)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back what interrupts: between a process's start and the name for it, an interrupt would lose it."""
    held: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {n: signal.signal(n, lambda number, _: held.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            raise KeyboardInterrupt


def end_group(process: subprocess.Popen) -> None:
    """Ask the group of ``process`` to end, then make it."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


@contextlib.contextmanager
def _edge() -> Iterator[tuple[subprocess.Popen | None, Path]]:
    """The edge service by the deployment's own command; None where it is not installed."""
    service = _edge_service()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        if not (REPOSITORY / service.command[0]).is_file():
            yield None, log
            return
        with running_command(service.command, log=log, environment=dict(os.environ)) as process:
            yield process, log


def _wait(process: subprocess.Popen | None, log: Path, deadline: float) -> str:
    """Until the edge service is healthy: an empty text, or why it is not."""
    service = _edge_service()
    if process is None:
        return f"{service.command[0]} is not installed; run `make deploy-all` once"
    while problem := trouble(service):
        if process.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            return f"the edge service did not start: {lines[-1] if lines else f'exit code {process.returncode}'}"
        if time.monotonic() > deadline:
            return f"the edge service is not ready: {problem}"
        time.sleep(0.05)
    return ""


def _edge_service() -> Service:
    return next(service for service in load_services() if service.name == "edge")
