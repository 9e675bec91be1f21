"""``python -m loadtest``: a load profile on every target of the running deployment (``make loadtest``)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console

from compare import terminal
from loadtest import results, run, table
from loadtest.profiles import find_profile, profile_names
from loadtest.services import SERVICES
from models.artifacts import read_json, reports_root
from models.errors import TargetError, interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description=f"{__doc__} Exit code 0: all answered rightly and the figures are the server's; 1: requests failed, "
        "or the generator was measured instead; 2: nothing could be asked.",
    )
    parser.add_argument(
        "--profile", default="smoke", help=f"of profiles.toml: {', '.join(profile_names())}; default smoke"
    )
    parser.add_argument(
        "--targets",
        default=os.environ.get("TARGETS", ""),
        help=f"comma-separated, of {', '.join(SERVICES)}; default all",
    )
    parser.add_argument(
        "--models", default=os.environ.get("MODELS", ""), help="comma-separated; default all, or env MODELS"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that send; default 1")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the arrivals and of the answers that are checked; default 0"
    )
    parser.add_argument("--json", action="store_true", help="print load.json instead of the table, progress on stderr")
    options = parser.parse_args(argv)
    if options.workers < 1 or options.seed < 0:
        raise TargetError(
            f"--workers={options.workers} --seed={options.seed}: use 1 worker or more, a seed of 0 or more"
        )
    start = time.monotonic()
    selection = run.Selection(
        profile=find_profile(options.profile),
        targets=_names(options.targets),
        models=_names(options.models),
        workers=options.workers,
        seed=options.seed,
    )
    screen = Console(stderr=True, highlight=False) if options.json else terminal.console()
    folder = reports_root()
    try:
        content = run.run_profile(selection, tell=lambda line: screen.print(line, markup=False, soft_wrap=True))
    except KeyboardInterrupt:
        print(f"stopped; nothing is written, {folder / 'load.json'} is as it was", file=sys.stderr)
        return 130
    data = read_json(results.write("load", content, folder=folder))
    if options.json:
        print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        table.show(screen, data)
    failed, invalid = (sum(bool(cell[key]) for cell in data["cells"]) for key in ("failed", "invalid"))
    colour = "bold red" if failed or invalid else "bold green"
    counts = f"{len(data['cells'])} runs, {failed} with failed requests, {invalid} invalid"
    page = folder / "index.html"
    report = page if page.is_file() else folder / "load.json"
    screen.print(f"[{colour}]{counts}[/] in {time.monotonic() - start:.0f} s  report: {report}", soft_wrap=True)
    return 1 if failed or invalid else 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    interruptible()
    run_cli(main)
