"""Which process listens where, and which processes are this deployment's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from models.artifacts import artifacts_root
from models.errors import DeployError

if TYPE_CHECKING:
    from deploy.services import Service

# In the environment of everything that this deployment starts, children included: its artifacts folder.
# So `down` finds them all, whatever has become of the supervisor.
MARK = "EXPORT_ONCE_DEPLOYMENT"


@dataclass(frozen=True)
class Owner:
    """A process that listens on a port; ``pid`` is None where this user may not see it."""

    pid: int | None
    command: str
    ours: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else self.command


def listeners() -> dict[int, Owner]:
    """Every TCP port of this machine that something listens on."""
    found: dict[int, Owner] = {}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            number = connection.laddr.port
            if number not in found or found[number].pid is None:
                found[number] = _owner(connection.pid)
    return found


def _owner(pid: int | None) -> Owner:
    if pid is None:
        return Owner(None, "a process of another user")
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return Owner(pid, "it has just ended")
    return Owner(pid, command if len(command) <= 120 else command[:117] + "…", ours=is_marked(process))


def is_marked(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == str(artifacts_root())
    except (psutil.Error, OSError):
        return False


def marked_processes() -> list[psutil.Process]:
    """This deployment's processes, the supervisor and grandchildren included; never the caller or its parents."""
    me = psutil.Process()
    family = {me.pid, *(p.pid for p in me.parents())}
    return [p for p in psutil.process_iter() if p.pid not in family and is_marked(p)]


def check_free(services: list[Service]) -> None:
    """Raises DeployError that names the owner of a taken port and how to choose another."""
    taken = listeners()
    for service in services:
        for name, number in service.ports.items():
            if (owner := taken.get(number)) and not owner.ours:
                free = number + 1000
                while free in taken or free > 65000:
                    free = free + 1 if free <= 65000 else 20000
                goal = "monitor" if service.on_demand else "deploy-all"
                raise DeployError(
                    f"port {number} ({name}, {service.name}) is taken by {owner}; "
                    f"stop it, or choose another port: {name}={free} make {goal}"
                )


def end(processes: list[psutil.Process], *, seconds: float = 10) -> None:
    """Terminate, wait, kill what is left; processes that have gone already are no matter."""
    for signal in ("terminate", "kill"):
        for process in processes:
            try:
                getattr(process, signal)()
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied as error:
                raise DeployError(f"process {process.pid} belongs to another user; stop it as that user") from error
        _, processes = psutil.wait_procs(processes, timeout=seconds)


def marked_environment() -> dict[str, str]:
    """The environment that services run in: the caller's, without what belongs to its own Python or make."""
    dropped = (
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "PYTHONHOME",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "MAKE_RUN",
        "MAKEOVERRIDES",
    )
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return kept | {MARK: str(artifacts_root()), "PYTHONUNBUFFERED": "1"}
