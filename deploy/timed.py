"""Run one step of the line, say how long it took, and keep the figure: ``python -m deploy.timed STEP [--table] -- COMMAND…``.

The steps of one `make` (named by $MAKE_RUN, the nanosecond of its start) stand in ``artifacts/times.json``; ``--table``
ends with them all. Steps run side by side, so their sum is not the time of the whole: beside each stands the CPU time of
all its processes, and the last line says what the machine's cores allow. Standard library only: the set-up uses it too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from models.artifacts import artifacts_root, read_json, write_json
from models.errors import ArtifactError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = ("set-up", "environments", "page", "train", "export", "convert", "publish", "deploy", "compare")
SCHEMA = 2
_recording = threading.Lock()


@dataclass(frozen=True)
class Spent:
    """Start and end of a step in seconds since the epoch, and the CPU seconds of its processes."""

    start: float
    end: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        """Two commands of one step."""
        return Spent(min(self.start, other.start), max(self.end, other.end), self.cpu + other.cpu)


def record(step: str, spent: Spent) -> None:
    """Add what a ``step`` of this run has spent. A new run starts a new table."""
    run = os.environ.get("MAKE_RUN", "")
    with _recording:
        found = _load()
        steps = found["steps"] if run and found["run"] == run else {}
        known = [Spent(**steps[step])] if step in steps else []
        steps[step] = asdict(sum(known, start=spent))
        write_json(artifacts_root() / "times.json", {"schema": SCHEMA, "run": run, "steps": steps})


def steps_of_the_run() -> dict[str, Spent]:
    """The steps of the last run, in the order of the line."""
    steps = {name: Spent(**spent) for name, spent in _load()["steps"].items()}
    return dict(sorted(steps.items(), key=lambda item: STEPS.index(item[0]) if item[0] in STEPS else len(STEPS)))


def table() -> str:
    """The steps of the last run, the whole, and the limit that the cores set, as text."""
    steps, run = steps_of_the_run(), _load()["run"]
    start = int(run) / 1e9 if run.isdigit() else min(spent.start for spent in steps.values())
    end, cpu = max(spent.end for spent in steps.values()), sum(spent.cpu for spent in steps.values())
    cores = os.cpu_count() or 1
    lines = [f"  {'step':<13}{'from':>8}{'to':>8}{'took':>8}{'CPU':>8}   seconds"]
    for name, spent in steps.items():
        times = (spent.start - start, spent.end - start, spent.end - spent.start, spent.cpu)
        lines.append(f"  {name:<13}" + "".join(f"{value:8.1f}" for value in times))
    lines.append(f"  {'all':<13}{'':8}{'':8}{end - start:8.1f}{cpu:8.1f}")
    busy = cpu / (end - start) / cores if end > start else 1
    limit = (
        f"{cores} cores were {100 * busy:.0f} % busy with these steps; at 100 % they would take {cpu / cores:.0f} s."
    )
    return "\n".join(["", "Time of each step:", *lines, limit])


def _load() -> dict:
    with contextlib.suppress(ArtifactError, TypeError, AttributeError):
        times = read_json(artifacts_root() / "times.json")
        if times.get("schema") == SCHEMA:
            return times
    return {"run": "", "steps": {}}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.timed", description=__doc__.splitlines()[0])
    parser.add_argument("step", help="the step's name in the table")
    parser.add_argument("--table", action="store_true", help="print the times of all steps of this run at the end")
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    arguments, command = parser.parse_args(words[:at]), words[at + 1 :]
    if not command:
        parser.error("which command? python -m deploy.timed STEP [--table] -- COMMAND…")
    start, before = time.time(), os.times()
    status = subprocess.run(command).returncode
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    spent = Spent(start, time.time(), cpu)
    record(arguments.step, spent)
    print(f"[{arguments.step}: {spent.end - start:.1f} s{'' if status == 0 else f', exit code {status}'}]", flush=True)
    if arguments.table:
        print(table(), flush=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    run_cli(main)
