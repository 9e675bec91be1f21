"""``python -m deploy up|down|status|doctor``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from models.errors import DeployError, run_cli


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy", description="Start, show and stop the services.")
    parser.add_argument("action", choices=["up", "down", "status", "doctor"])
    parser.add_argument("--services", type=Path, help="another services.toml")
    arguments = parser.parse_args()
    if arguments.action == "doctor":
        from deploy.doctor import doctor  # runs without the root environment, so nothing of it is imported here

        return doctor()
    from deploy import compose, stack
    from deploy.services import load_services

    how = os.environ.get("DEPLOY") or "processes"
    if how not in ("processes", "docker"):
        raise DeployError(f"DEPLOY={how} is unknown; leave it out for processes, or use DEPLOY=docker")
    if arguments.action == "up":
        services = load_services(arguments.services)
        if how == "docker":
            compose.up(services)
        else:
            stack.up(services)
    elif arguments.action == "status":
        services = load_services(arguments.services)
        return compose.status(services) if how == "docker" else stack.status(services)
    else:
        stack.down()
        compose.down(asked=how == "docker")
    return 0


if __name__ == "__main__":
    run_cli(main)
