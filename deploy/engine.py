"""Is there a Docker engine with compose? ``python -m deploy.engine`` says why not and ends with 1; standard library only."""

from __future__ import annotations

import shutil
import subprocess
import sys


def engine_trouble() -> str:
    """Why no containers can be started here, in one sentence with a remedy; empty when they can."""
    if not shutil.which("docker"):
        return "no Docker engine: docker is not installed; install it"
    done = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True)
    if done.returncode:
        return "no Docker engine: the docker client finds none running; start dockerd"
    if compose_command() is None:
        return "no docker compose: install docker's compose plugin or docker-compose"
    return ""


def compose_command() -> list[str] | None:
    """``docker compose`` where the plugin is there, else ``docker-compose``, else None."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True)
            if done.returncode == 0:
                return command
    return None


if __name__ == "__main__":
    if problem := engine_trouble():
        print(f"skipped: {problem}")
        sys.exit(1)
