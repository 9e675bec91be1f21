"""Run one step of the line, say how long it took, and keep the figure: ``python -m deploy.timed STEP [--table] -- COMMAND…``.

The seconds of the steps of one `make` (named by $MAKE_RUN) stand in ``artifacts/times.json``; ``--table`` ends with
them all. A step that ran in two commands is their sum. Standard library only: the set-up uses it too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time

from models.artifacts import artifacts_root, read_json, write_json
from models.errors import ArtifactError, run_cli

STEPS = ("set-up", "train", "export", "convert", "publish", "page", "deploy", "compare")


def record(step: str, seconds: float) -> None:
    """Add ``seconds`` to this run's ``step``. A new run starts a new table."""
    run = os.environ.get("MAKE_RUN", "")
    times = _load()
    if not run or times.get("run") != run:
        times = {"run": run, "seconds": {}}
    times["seconds"][step] = round(times["seconds"].get(step, 0.0) + seconds, 1)
    write_json(artifacts_root() / "times.json", times)


def table() -> str:
    """The steps of the last run and their sum, as text."""
    seconds: dict[str, float] = _load()["seconds"]
    steps = sorted(seconds, key=lambda s: STEPS.index(s) if s in STEPS else len(STEPS))
    lines = [f"  {step:<10}{seconds[step]:>8.1f} s" for step in steps]
    return "\n".join(["", "Time of each step:", *lines, f"  {'all':<10}{sum(seconds.values()):>8.1f} s"])


def _load() -> dict:
    with contextlib.suppress(ArtifactError, TypeError, AttributeError):
        times = read_json(artifacts_root() / "times.json")
        if isinstance(times.get("seconds"), dict):
            return times
    return {"run": "", "seconds": {}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.timed", description=__doc__.splitlines()[0])
    parser.add_argument("step", help="the step's name in the table")
    parser.add_argument("--table", action="store_true", help="print the times of all steps of this run at the end")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, command = sys.argv[1:at], sys.argv[at + 1 :]
    arguments = parser.parse_args(options)
    if not command:
        parser.error("which command? python -m deploy.timed STEP [--table] -- COMMAND…")
    start = time.monotonic()
    status = subprocess.run(command).returncode
    seconds = time.monotonic() - start
    record(arguments.step, seconds)
    print(f"[{arguments.step}: {seconds:.1f} s{'' if status == 0 else f', exit code {status}'}]", flush=True)
    if arguments.table:
        print(table(), flush=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    run_cli(main)
