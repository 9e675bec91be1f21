"""``make doctor``: what this machine has and what it lacks, each with a remedy. Runs without any environment made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import prometheus
from deploy.environments import Environment, find_browser, load_environments, node_folder
from deploy.ports import port
from deploy.programs import PROGRAMS
from models.artifacts import artifacts_root
from models.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK_GIB = 8  # the environments take 6 GiB, the artefacts and reports less than 1
MEMORY_GIB = 4  # TensorFlow in two processes, three services, a browser


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``essential``: without it nothing can be deployed."""

    what: str
    fine: bool
    seen: str
    remedy: str = ""
    essential: bool = False

    def __str__(self) -> str:
        sign = "ok     " if self.fine else "MISSING" if self.essential else "missing"
        return f"{sign}  {self.what:<28}{self.seen}" + (f"; {self.remedy}" if self.remedy and not self.fine else "")


def doctor() -> int:
    """Print every finding; 0 unless something essential is missing."""
    findings = []
    for finding in (f for part in (_tools(), _environments(), _machine(), _ports()) for f in part):
        print(finding, flush=True)
        findings.append(finding)
    missing = [f.what for f in findings if f.essential and not f.fine]
    print(f"Essential and missing: {', '.join(missing)}" if missing else "Nothing essential is missing.")
    return 1 if missing else 0


def _tools() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python",
        (3, 11) <= sys.version_info[:2] <= (3, 13),
        f"{version}, {sys.executable}",
        "install Python 3.11, 3.12 or 3.13",
        True,
    )
    bootstrapped = Path(".venv-bootstrap/bin/uv")
    uv = os.environ.get("UV") or shutil.which("uv") or (str(bootstrapped) if bootstrapped.exists() else None)
    yield Finding("uv", uv is not None, _version(uv) if uv else "not found", "`make setup` installs it")
    browser = find_browser()
    yield Finding(
        "Chromium",
        browser is not None,
        browser or "not found",
        "the browser's targets are skipped; apt-get install chromium",
    )
    for program in PROGRAMS:
        found = shutil.which(program.name)
        yield Finding(program.name, found is not None, found or "not found", program.remedy)
    node = node_folder()
    yield Finding(
        "Node.js",
        node is not None,
        _version(str(node / "node")) if node else "not found",
        "`make setup` installs it as a wheel",
    )
    docker = shutil.which("docker")
    running = bool(docker) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    seen = _version(docker) if docker else "not installed"
    yield Finding(
        "Docker engine",
        running,
        seen if running or not docker else f"{seen}, no engine answers",
        "only DEPLOY=docker needs it",
    )
    found = prometheus.find()
    yield Finding("Prometheus", found is not None, found or "not found", f"{prometheus.WITHOUT}; {prometheus.REMEDY}")


def _environments() -> Iterator[Finding]:
    for environment in load_environments():
        name = str(environment.path.relative_to(environment.root))
        if environment.reason_file.exists():
            yield Finding(name, False, environment.reason_file.read_text().strip(), environment.optional)
        elif not environment.on_demand or environment.path.exists():
            yield _environment(name, environment)


def _environment(name: str, environment: Environment) -> Finding:
    if not environment.is_current():
        seen = "not as its lock says" if environment.interpreter.exists() else "not made yet"
        return Finding(name, False, seen, "`make setup` makes it")
    probe = "import sys, importlib.util as u; print('%d.%d.%d' % sys.version_info[:3], u.find_spec('tensorflow') is not None)"
    done = subprocess.run([environment.interpreter, "-c", probe], capture_output=True, text=True)
    version, _, tensorflow = done.stdout.strip().partition(" ")
    if tensorflow == "True" and environment.name in ("edge", "edge/tflite-runtime", "serving/server", "web"):
        return Finding(
            name, False, f"Python {version}, with TensorFlow, which it must do without", f"rm -r {name}; make setup"
        )
    return Finding(
        name,
        done.returncode == 0,
        f"Python {version}, {'with' if tensorflow == 'True' else 'no'} TensorFlow",
        f"rm -r {name}; make setup",
    )


def _machine() -> Iterator[Finding]:
    root = artifacts_root()
    there = next(path for path in (root, *root.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            writable, seen = True, str(root)
    except OSError as error:
        writable, seen = False, f"{root}: {error.strerror}"
    yield Finding("write to artifacts", writable, seen, "make it writable, or set ARTIFACTS=/another/folder", True)
    free = shutil.disk_usage(there).free / 2**30
    needed = 1 if Path(".venv").exists() else DISK_GIB
    yield Finding(
        "disk",
        free >= needed,
        f"{free:.0f} GiB free",
        f"free at least {needed} GiB, or set ARTIFACTS to another disk",
        True,
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield Finding(
        "memory", memory >= MEMORY_GIB, f"{memory:.0f} GiB, {os.cpu_count()} cores", f"{MEMORY_GIB} GiB are needed"
    )


def _ports() -> Iterator[Finding]:
    for name in ("GRPC_PORT", "REST_PORT", "WEB_PORT", "EDGE_PORT"):
        try:
            number = port(name)
        except DeployError as error:
            yield Finding(name, False, str(error), essential=True)
            continue
        fine, seen = _port(number)
        yield Finding(
            f"port {number} ({name})",
            fine,
            seen,
            f"stop it, or choose another: {name}={number + 1000} make deploy-all",
            True,
        )


def _port(number: int) -> tuple[bool, str]:
    if importlib.util.find_spec("psutil"):
        from deploy.ownership import listeners  # psutil comes with the root environment

        owner = listeners().get(number)
        if owner:
            return owner.ours, f"{'ours' if owner.ours else 'taken'}: {owner}"
        return True, "free"
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", number)) == 0
    return not taken, "taken" if taken else "free"


def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} does not run ({error})"
    return f"{done.stdout.strip() or done.stderr.strip()}, {program}"
