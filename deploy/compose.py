"""``DEPLOY=docker``: the same services as containers, the real TensorFlow Serving among them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

from deploy.columns import columns
from deploy.engine import compose_command, engine_trouble
from deploy.environments import REPOSITORY
from deploy.example import write_examples
from deploy.health import trouble
from deploy.ownership import check_free
from deploy.ports import port, remember_ports
from deploy.services import Service, check_distinct, published_models
from models.artifacts import artifacts_root, reports_root
from models.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

WITHIN_S = 300  # the first start pulls and builds images
OR_ELSE = "or leave out DEPLOY=docker to run processes"
OWN_IMAGE = "export-once-server"  # our model server's, as docker-compose.yml names it; TF_SERVING_IMAGE may ask for it
OWN_PORTS = ("OWN_GRPC_PORT", "OWN_REST_PORT")  # where it listens beside the real one
MONITORING_PORTS = ("PROMETHEUS_PORT", "WATCH_PORT", "GRAFANA_PORT")
PROFILES = "own,monitoring"  # all that docker-compose.yml has


def compose_environment(services: list[Service]) -> dict[str, str]:
    """What docker-compose.yml reads: ports, folders, and a project name of this checkout's own."""
    ports = {name: str(number) for service in services for name, number in service.ports.items()}
    ports |= {name: str(port(name)) for name in (*OWN_PORTS, *MONITORING_PORTS)}
    folders = {"ARTIFACTS": str(artifacts_root()), "REPORTS": str(reports_root())}
    return {**os.environ, **ports, **folders, "COMPOSE_PROJECT_NAME": project_name()}


def project_name() -> str:
    return "export-once-" + hashlib.sha256(str(artifacts_root()).encode()).hexdigest()[:8]


def up(services: list[Service], *, profile: str = "") -> None:
    """Build, start and wait, also for what ``profile`` adds. Raises DeployError, also where no engine answers."""
    if problem := engine_trouble():
        raise DeployError(f"skipped: {problem}, {OR_ELSE}")
    check_distinct(services)
    if not published_models():
        raise DeployError(f"no model is published in {artifacts_root() / 'repository'}; run `make build`")
    if not _running():
        check_free(services)
    remember_ports({name: number for service in services for name, number in service.ports.items()})
    reports_root().mkdir(parents=True, exist_ok=True)
    print("building and starting the containers", flush=True)
    environment = compose_environment(services)
    if environment.get("TF_SERVING_IMAGE") == OWN_IMAGE:
        run_compose({**environment, "COMPOSE_PROFILES": "own"}, "build", "own")
    chosen = {"COMPOSE_PROFILES": profile} if profile else {}
    run_compose({**environment, **chosen}, "up", "--detach", "--build", "--remove-orphans")
    wait_healthy(services, environment)
    write_examples()
    rows = [("service", "address", "try"), *((s.name, s.addresses[0], s.example()) for s in services)]
    print(f"\n{columns(rows)}\n\nNext: DEPLOY=docker make demo, DEPLOY=docker make down")


def wait_healthy(services: list[Service], environment: Mapping[str, str]) -> None:
    """Until each service answers; raises DeployError, after the end of its log, when one does not within WITHIN_S."""
    start = said = time.monotonic()
    for service in services:
        while problem := trouble(service):
            if time.monotonic() - start > WITHIN_S:
                run_compose(environment, "logs", "--tail", "15", service.name)
                raise DeployError(f"{service.name} is not healthy after {WITHIN_S} s ({problem}); see `docker logs`")
            if time.monotonic() - said > 5:
                print(f"waiting for {service.name}: {problem}", flush=True)
                said = time.monotonic()
            time.sleep(0.5)
        print(f"{service.name} is healthy after {time.monotonic() - start:.1f} s", flush=True)


def status(services: list[Service]) -> int:
    if problem := engine_trouble():
        raise DeployError(f"skipped: {problem}, {OR_ELSE}")
    run_compose(compose_environment(services), "ps")
    problems = {service.name: trouble(service) for service in services}
    print(columns([("service", "health"), *((name, problem or "healthy") for name, problem in problems.items())]))
    return 1 if any(problems.values()) else 0


def down(*, asked: bool) -> None:
    """Stop this checkout's containers, if there are any. ``asked``: the caller wants Docker, so its absence is an error."""
    if problem := engine_trouble():
        if asked:
            raise DeployError(f"skipped: {problem}, {OR_ELSE}")
        return
    if _running():
        run_compose({**compose_environment([]), "COMPOSE_PROFILES": PROFILES}, "down", "--remove-orphans")
        print("stopped the containers")


def _running() -> bool:
    label = f"label=com.docker.compose.project={project_name()}"
    done = subprocess.run(["docker", "ps", "--all", "--quiet", "--filter", label], capture_output=True, text=True)
    return bool(done.stdout.strip())


def run_compose(environment: Mapping[str, str], *arguments: str) -> None:
    """Run docker compose on docker-compose.yml. Raises DeployError when it fails; its messages are shown as they come."""
    command = [*(compose_command() or []), *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise DeployError(f"`{' '.join(command)}` failed with exit code {done.returncode}; its message is above")
