"""``DEPLOY=docker``: the same three services as containers, the real TensorFlow Serving among them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time

from deploy.columns import columns
from deploy.environments import REPOSITORY
from deploy.example import write_examples
from deploy.health import trouble
from deploy.ownership import check_free
from deploy.ports import remember_ports
from deploy.services import Service, check_distinct, published_models
from models.artifacts import artifacts_root, reports_root
from models.errors import DeployError

WITHIN_S = 300  # the first start pulls and builds images


def engine_trouble() -> str:
    """Why no containers can be started here, in one sentence with a remedy; empty when they can."""
    if not shutil.which("docker"):
        return "no Docker engine: docker is not installed; install it, or leave out DEPLOY=docker to run processes"
    done = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True)
    if done.returncode:
        return "no Docker engine: the docker client finds none running; start dockerd, or leave out DEPLOY=docker to run processes"
    if compose_command() is None:
        return "no docker compose: install docker's compose plugin or docker-compose, or leave out DEPLOY=docker"
    return ""


def compose_command() -> list[str] | None:
    """``docker compose`` where the plugin is there, else ``docker-compose``, else None."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True)
            if done.returncode == 0:
                return command
    return None


def compose_environment(services: list[Service]) -> dict[str, str]:
    """What docker-compose.yml reads: ports, folders, and a project name of this checkout's own."""
    ports = {name: str(number) for service in services for name, number in service.ports.items()}
    folders = {"ARTIFACTS": str(artifacts_root()), "REPORTS": str(reports_root())}
    return {**os.environ, **ports, **folders, "COMPOSE_PROJECT_NAME": project_name()}


def project_name() -> str:
    return "export-once-" + hashlib.sha256(str(artifacts_root()).encode()).hexdigest()[:8]


def up(services: list[Service]) -> None:
    """Build, start and wait. Raises DeployError, also where no engine answers."""
    if problem := engine_trouble():
        raise DeployError(f"skipped: {problem}")
    check_distinct(services)
    if not published_models():
        raise DeployError(f"no model is published in {artifacts_root() / 'repository'}; run `make build`")
    if not _running():
        check_free(services)
    remember_ports({name: number for service in services for name, number in service.ports.items()})
    reports_root().mkdir(parents=True, exist_ok=True)
    print("building and starting the containers", flush=True)
    _compose(services, "up", "--detach", "--build", "--remove-orphans")
    start = said = time.monotonic()
    for service in services:
        while problem := trouble(service):
            if time.monotonic() - start > WITHIN_S:
                _compose(services, "logs", "--tail", "15", service.name)
                raise DeployError(f"{service.name} is not healthy after {WITHIN_S} s ({problem}); see `docker logs`")
            if time.monotonic() - said > 5:
                print(f"waiting for {service.name}: {problem}", flush=True)
                said = time.monotonic()
            time.sleep(0.5)
        print(f"{service.name} is healthy after {time.monotonic() - start:.1f} s", flush=True)
    write_examples()
    rows = [("service", "address", "try"), *((s.name, s.addresses[0], s.example()) for s in services)]
    print(f"\n{columns(rows)}\n\nNext: DEPLOY=docker make demo, DEPLOY=docker make down")


def status(services: list[Service]) -> int:
    if problem := engine_trouble():
        raise DeployError(f"skipped: {problem}")
    _compose(services, "ps")
    problems = {service.name: trouble(service) for service in services}
    print(columns([("service", "health"), *((name, problem or "healthy") for name, problem in problems.items())]))
    return 1 if any(problems.values()) else 0


def down(*, asked: bool) -> None:
    """Stop this checkout's containers, if there are any. ``asked``: the caller wants Docker, so its absence is an error."""
    if problem := engine_trouble():
        if asked:
            raise DeployError(f"skipped: {problem}")
        return
    if _running():
        _compose([], "down", "--remove-orphans")
        print("stopped the containers")


def _running() -> bool:
    label = f"label=com.docker.compose.project={project_name()}"
    done = subprocess.run(["docker", "ps", "--all", "--quiet", "--filter", label], capture_output=True, text=True)
    return bool(done.stdout.strip())


def _compose(services: list[Service], *arguments: str) -> None:
    command = [*(compose_command() or []), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=compose_environment(services), stdin=subprocess.DEVNULL)
    if done.returncode:
        raise DeployError(f"`{' '.join(command)}` failed with exit code {done.returncode}; its message is above")
