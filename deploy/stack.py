"""Bring the services up, say how they are, and take them down again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import time
from typing import TYPE_CHECKING

import psutil

from deploy.columns import columns
from deploy.example import write_examples
from deploy.health import reload, trouble
from deploy.ownership import check_free, end, marked_processes
from deploy.ports import forget_ports, remember_ports
from deploy.services import Service, check_distinct, published_models
from deploy.supervision import (
    Supervisor,
    config_path,
    log_of,
    logs_folder,
    run_folder,
    socket_path,
    write_config,
    written_fingerprints,
)
from models.artifacts import artifacts_root, read_json, write_json
from models.errors import ArtifactError, DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG_LINES = 15  # how much of a log is shown when its service fails


def chosen(services: list[Service]) -> list[Service]:
    """The services of the deployment; those on demand when they were started and not taken down."""
    supervisor = Supervisor.connect()
    started = supervisor.states() if supervisor else {}
    return [service for service in services if not service.on_demand or service.name in started]


def up(services: list[Service]) -> None:
    """Start what is not running, restart what changed, wait until all are healthy. Raises DeployError, ArtifactError."""
    check_distinct(services)
    _check_ready(services)
    _make_folders()
    with _alone():
        supervisor = Supervisor.connect()
        if supervisor is None and (left := marked_processes()):
            print(f"ending {len(left)} processes that a supervisor left behind", flush=True)
            end(left)
        check_free(services)
        remember_ports({name: number for service in services for name, number in service.ports.items()})
        fingerprints = _fingerprints(services, running=supervisor is not None)
        before = written_fingerprints() if supervisor else {}
        write_config(services, fingerprints)
        if supervisor is None:
            print("starting " + ", ".join(s.name for s in services), flush=True)
            supervisor = Supervisor.start()
        else:
            started = supervisor.apply()
            for name in started:
                print(
                    f"{name} {'restarted: it or what it loads has changed' if name in before else 'started'}",
                    flush=True,
                )
            supervisor.start_stopped()
    wait_healthy(supervisor, services)
    for service in services:
        for change in reload(service):
            print(f"{service.name}: {change}", flush=True)
    write_examples()
    print(_addresses(services))


def wait_healthy(supervisor: Supervisor, services: list[Service]) -> None:
    """Wait for every service, each up to its ``within_s``. Raises DeployError with the end of the log of one that fails."""
    start, said = time.monotonic(), time.monotonic()
    waiting = {service.name: service for service in services}
    while waiting:
        states = supervisor.states()
        for service in list(waiting.values()):
            state = states[service.name]["statename"]
            problem = trouble(service)
            seconds = time.monotonic() - start
            if not problem and state in ("STARTING", "RUNNING"):
                print(f"{service.name} is healthy after {seconds:.1f} s", flush=True)
                del waiting[service.name]
            elif state == "FATAL":
                raise _failed(service, "ends as soon as it is started")
            elif seconds > service.within_s:
                raise _failed(service, f"is not healthy after {seconds:.0f} s ({state}; {problem})")
            elif time.monotonic() - said > 5:
                print(f"waiting for {service.name}: {problem or state}", flush=True)
        if time.monotonic() - said > 5:
            said = time.monotonic()
        if waiting:
            time.sleep(0.2)


def _failed(service: Service, what: str) -> DeployError:
    log = log_of(service)
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        print("\n".join([f"The end of {log}:", *(f"    {line}" for line in lines)]), flush=True)
    return DeployError(f"{service.name} {what}; its log is {log}, `make down` stops everything")


def status(services: list[Service]) -> int:
    """Print a table of the services; 0 when all are healthy, else 1."""
    supervisor = Supervisor.connect()
    states = supervisor.states() if supervisor else {}
    rows = [("service", "state", "pid", "up for", "memory", "address", "health")]
    healthy = True
    for service in services:
        info = states.get(service.name)
        problem = trouble(service) if info else "not started: make deploy-all"
        healthy &= not problem
        pid = info["pid"] if info else 0
        seconds = info["now"] - info["start"] if info and pid else 0
        state = info["statename"].lower() if info else "stopped"
        memory = f"{_memory(pid) / 2**20:.0f} MiB" if pid else ""
        rows.append(
            (
                service.name,
                state,
                str(pid or ""),
                _duration(seconds) if pid else "",
                memory,
                service.addresses[0],
                problem or "healthy",
            )
        )
    print(columns(rows))
    if not supervisor and (left := marked_processes()):
        print(f"The supervisor is gone, {len(left)} of its processes are not: make down, or make deploy-all")
        healthy = False
    return 0 if healthy else 1


def down() -> None:
    """Stop everything that ``up`` started, whatever has become of the supervisor. Harmless when nothing runs."""
    supervisor = Supervisor.connect()
    stopped = [name for name, info in supervisor.states().items() if info["pid"]] if supervisor else []
    if supervisor:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process = psutil.Process(supervisor.pid())
            supervisor.shutdown()
            process.wait(30)
    left = marked_processes()
    end(left)
    for path in (socket_path(), config_path(), run_folder() / "supervisord.pid"):
        with contextlib.suppress(OSError):
            path.unlink()
    forget_ports()
    if stopped:
        print(f"stopped {', '.join(stopped)}")
    if left:
        print(f"ended {len(left)} processes that were left behind")
    if not stopped and not left:
        print("nothing was running")


def _addresses(services: list[Service]) -> str:
    rows = [("service", "address", "what it is", "try")]
    for service in services:
        for i, address in enumerate(service.addresses):
            rows.append((service.name, address, service.about, service.example()) if i == 0 else ("", address, "", ""))
    return f"\n{columns(rows)}\n\nLogs: {logs_folder()}. Next: make demo, make status, make down"


def _fingerprints(services: list[Service], *, running: bool) -> dict[str, str]:
    """What each service is to run, as one hash. A new file in what it watches by itself leaves the hash as it is."""
    path = run_folder() / "loaded.json"
    try:
        known = read_json(path) if running else {}
    except ArtifactError:
        known = {}
    found, keep = {}, {}
    for service in services:
        now, old = service.loaded(), known.get(service.name, {"files": {}, "loaded": 0})
        replaced = any(now[file] != sha for file, sha in old["files"].items() if file in now)
        number = old["loaded"] + 1 if replaced else old["loaded"]
        keep[service.name] = {"files": now, "loaded": number}
        found[service.name] = f"{service.fingerprint()}.{number}"
    write_json(path, keep)
    return found


def _check_ready(services: list[Service]) -> None:
    for service in services:
        program = service.command[0]
        if "/" in program and not (service.root / program).exists():
            raise DeployError(f"{program} is missing, which {service.name} needs; run `make setup`")
        if "{model}" in service.health and not published_models():
            raise DeployError(f"no model is published in {artifacts_root() / 'repository'}; run `make build`")


def _make_folders() -> None:
    for folder in (run_folder(), logs_folder()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            remedy = "free some space" if error.errno == errno.ENOSPC else "make it writable"
            raise ArtifactError(
                f"cannot write {folder}: {error.strerror}; {remedy}, or set ARTIFACTS=/another/folder"
            ) from error


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One ``up`` of a deployment at a time; a second waits."""
    with (run_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _memory(pid: int) -> int:
    """Bytes resident in a process and its children."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def _duration(seconds: int) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"
