"""``python -m deploy up|monitor|down|status|doctor``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import DeployError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.services import Service


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy", description="Start, show and stop the services.")
    parser.add_argument("action", choices=["up", "monitor", "down", "status", "doctor"])
    parser.add_argument("--services", type=Path, help="another services.toml")
    arguments = parser.parse_args(argv)
    if arguments.action == "doctor":
        from deploy.doctor import doctor  # runs without the root environment, so nothing of it is imported here

        return doctor()
    from deploy import compose, stack
    from deploy.services import load_services

    how = os.environ.get("DEPLOY") or "processes"
    if how not in ("processes", "docker"):
        raise DeployError(f"DEPLOY={how} is unknown; leave it out for processes, or use DEPLOY=docker")
    if arguments.action == "up" and how == "docker":
        compose.up(load_services(arguments.services))
    elif arguments.action == "up":
        stack.up(stack.chosen(load_services(arguments.services, on_demand=True)))
    elif arguments.action == "monitor":
        monitor(load_services(arguments.services, on_demand=True), docker=how == "docker")
    elif arguments.action == "status" and how == "docker":
        return compose.status(load_services(arguments.services))
    elif arguments.action == "status":
        return stack.status(stack.chosen(load_services(arguments.services, on_demand=True)))
    else:
        stack.down()
        compose.down(asked=how == "docker")
    return 0


def monitor(services: list[Service], *, docker: bool) -> None:
    """The deployment with Prometheus and what it asks beside the services; its alerts. Raises DeployError."""
    from deploy import compose, prometheus, stack
    from deploy.columns import columns
    from deploy.ports import port

    if docker:
        compose.up(services, profile="monitoring")
    elif problem := prometheus.missing():
        raise DeployError(problem)
    else:
        stack.up(services)
    address = f"http://127.0.0.1:{port('PROMETHEUS_PORT')}"
    print(f"\n{columns([('alert', 'state'), *prometheus.alerts(address)])}")
    print(f"\nPrometheus: {address}, what each alert means: deploy/monitoring/rules.yml")
    if docker:
        print(f"Grafana: http://127.0.0.1:{port('GRAFANA_PORT')}")


if __name__ == "__main__":
    run_cli(main)
