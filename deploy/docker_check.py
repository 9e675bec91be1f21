"""``make docker-check``: builds the images, runs the deployment in them, compares on it, and takes it all down again.

The real tensorflow/serving answers where it can be had, with our server beside it; where not, ours stands in its place.
Project name and ports are the check's own, so a deployment that runs meanwhile is not touched. Its containers, networks
and images are gone afterwards, whatever happened; what was pulled stays. Without an engine it says so and is skipped.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from deploy.compose import (
    OWN_PORTS,
    compose_environment,
    project_name,
    run_compose,
    wait_healthy,
)
from deploy.engine import engine_trouble
from deploy.environments import REPOSITORY
from deploy.services import load_services
from models.artifacts import reports_root
from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Mapping

REAL_IMAGE = "tensorflow/serving:2.20.0"
PORTS = ("GRPC_PORT", "REST_PORT", "WEB_PORT", "EDGE_PORT", *OWN_PORTS)
HEALTHY_WITHIN_S = 120  # Docker's own health checks run every five seconds
BESIDE = {"GRPC_PORT": "OWN_GRPC_PORT", "REST_PORT": "OWN_REST_PORT"}


def check() -> int:
    """Build, start, compare, take down. The exit code of the comparison; raises DeployError when it does not get so far."""
    reports = reports_root() / "docker"
    reports.mkdir(parents=True, exist_ok=True)
    os.environ.update(free_ports(), REPORTS=str(reports))
    project = f"{project_name()}-check"
    own = {"COMPOSE_PROJECT_NAME": project, "OWN_IMAGE": f"{project}-own"}
    environment = {"TF_SERVING_IMAGE": REAL_IMAGE, **compose_environment(load_services()), **own}
    beside = {**environment, "COMPOSE_PROFILES": "own"}
    real = environment["TF_SERVING_IMAGE"]
    if reason := unavailable(real):
        print(f"{real} cannot be had ({reason}): our own server stands in its place, by TF_SERVING_IMAGE", flush=True)
        environment["TF_SERVING_IMAGE"] = environment["OWN_IMAGE"]
    with ExitStack() as left:
        left.callback(remove_images, project)
        left.callback(run_compose, beside, "down", "--volumes", "--remove-orphans")
        start = time.monotonic()
        run_compose(beside, "build")
        print(f"built the images in {time.monotonic() - start:.0f} s", flush=True)
        run_compose(environment if reason else beside, "up", "--detach")
        wait_healthy(load_services(), environment)
        wait_for_docker(project)
        status = compare(environment)
        if not reason:
            print("\nour own server, beside it:", flush=True)
            ports = {name: environment[other] for name, other in BESIDE.items()}
            own_reports = {"REPORTS": str(reports / "own")}
            status |= compare({**environment, **ports, **own_reports}, "--targets", "serving-rest,serving-grpc")
    if rest := remains(project):
        raise DeployError(f"these were left behind: {', '.join(rest)}; remove them with docker's rm")
    print(
        f"docker-check {'failed' if status else 'passed'}, nothing is left of it; its report: {reports / 'index.html'}"
    )
    return status


def unavailable(image: str) -> str:
    """Why an image is neither here nor to be pulled; an empty text when it is."""
    if docker("image", "ls", "--quiet", image):
        return ""
    print(f"pulling {image}", flush=True)
    done = subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def wait_for_docker(project: str) -> None:
    """Until Docker's own health checks of all containers pass. Raises DeployError with those that do not."""
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    while True:
        lines = docker("ps", "--all", "--filter", f"label=com.docker.compose.project={project}",
                       "--format", "{{.Names}} {{.Image}} {{.Status}}").splitlines()  # fmt: skip
        if lines and all("(healthy)" in line for line in lines):
            print("\n".join(lines), flush=True)
            return
        if time.monotonic() > deadline:
            raise DeployError(f"not healthy after {HEALTHY_WITHIN_S} s: {'; '.join(lines)}; see `docker logs`")
        time.sleep(0.5)


def compare(environment: Mapping[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", "compare", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL).returncode


def remove_images(project: str) -> None:
    """The images that were built for a project: all that are named after it."""
    if images := docker("image", "ls", "--format", "{{.Repository}}", "--filter", f"reference={project}*").split():
        docker("image", "rm", *images)


def remains(project: str) -> list[str]:
    """What there still is of a project: containers, networks, volumes, images."""
    label = ("--filter", f"label=com.docker.compose.project={project}")
    kinds = (
        ("ps", "--all", "--format", "{{.Names}}", *label),
        ("network", "ls", "--format", "{{.Name}}", *label),
        ("volume", "ls", "--format", "{{.Name}}", *label),
        ("image", "ls", "--format", "{{.Repository}}", "--filter", f"reference={project}*"),
    )
    return [name for kind in kinds for name in docker(*kind).splitlines()]


def docker(*arguments: str) -> str:
    """What the docker client prints. Raises DeployError when it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise DeployError(f"`docker {' '.join(arguments)}` failed: {done.stderr.strip()}; see dockerd's log")
    return done.stdout.strip()


def free_ports() -> dict[str, str]:
    """A free port of loopback for each published one."""
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in PORTS}
        for probe in sockets.values():
            probe.bind(("127.0.0.1", 0))
        return {name: str(probe.getsockname()[1]) for name, probe in sockets.items()}


def main() -> int:
    if problem := engine_trouble():
        print(f"skipped: {problem}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end from outside takes it all down too
    return check()


if __name__ == "__main__":
    run_cli(main)
