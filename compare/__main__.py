"""``python -m compare``: every model on every target of the running deployment, one verdict each (``make demo``)."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from compare import devices
from compare import versions as versions_module
from compare.run import Selection, run_comparison
from models.errors import interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare", description=__doc__)
    parser.add_argument(
        "--models", default=os.environ.get("MODELS", ""), help="comma-separated; default all, or env MODELS"
    )
    parser.add_argument(
        "--targets", default=os.environ.get("TARGETS", ""), help="comma-separated; default all, or env TARGETS"
    )
    parser.add_argument(
        "--versions",
        choices=["newest", "all"],
        default="all" if os.environ.get("VERSIONS") == "all" else "newest",
        help="newest: older versions only on keras, serving-rest and serving-grpc; all: on every target; or env VERSIONS=all",
    )
    parser.add_argument("--no-latency", action="store_true", help="outputs only: no cold starts and no steady latency")
    parser.add_argument(
        "--full-evidence",
        action="store_true",
        help="ask every row again, also where the same artefact has passed before",
    )
    commands = parser.add_subparsers(dest="command", title="instead of comparing targets")
    versions = commands.add_parser(
        "versions",
        help="two versions of one model on live traffic",
        description=(versions_module.__doc__ or "").split("\n\n")[0],
    )
    versions.add_argument("model")
    versions.add_argument("old", nargs="?", default="stable", help="label or version number; default stable")
    versions.add_argument("new", nargs="?", default="canary", help="label or version number; default canary")
    versions.add_argument("--seconds", type=float, default=10.0, help="of traffic; every row is asked in any case")
    versions.add_argument("--grpc-address", help="host:port of the server; default: this deployment's")
    versions.add_argument("--rest-address", help="host:port of the server; default: this deployment's")
    versions.add_argument("--json", action="store_true", help="print the result as JSON")
    importing = commands.add_parser(
        "import",
        help="rows that `edge bench --json` measured on a device",
        description=(devices.__doc__ or "").partition(": ")[2],
    )
    importing.add_argument("file", nargs="?", type=Path, help="bench.json from the device")
    importing.add_argument("--remove", metavar="DEVICE", help="forget the rows of that device")
    options = parser.parse_args(argv)
    if options.command == "import":
        if bool(options.file) == bool(options.remove):
            importing.error("give the file that `edge bench --json` wrote, or --remove DEVICE")
        if options.remove:
            devices.remove_device(options.remove)
            return 0
        return 1 if devices.import_bench(options.file) else 0
    if options.command == "versions":
        if not 0 <= options.seconds < float("inf"):
            versions.error(f"--seconds={options.seconds:g} is no time; give a number of seconds")
        return versions_module.run_versions(
            options.model,
            options.old,
            options.new,
            seconds=options.seconds,
            as_json=options.json,
            grpc_address=options.grpc_address,
            rest_address=options.rest_address,
        )
    start = time.perf_counter()
    selection = Selection(
        models=_names(options.models),
        targets=_names(options.targets),
        every_version=options.versions == "all",
        latency=not options.no_latency,
        full_evidence=options.full_evidence,
    )
    failed = run_comparison(selection)
    print(f"compared in {time.perf_counter() - start:.0f} s")
    return 1 if failed else 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    interruptible()
    run_cli(main)
