"""``python -m compare.check PATH``: the same verdict for your own SavedModel or ``.keras`` file (``make check``).

Exit 0: it ran and no float target fails; 1: a float target fails; 2: the input cannot be used.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compare import report, summary, terminal
from compare.comparison import Budget, Comparison, Outcome, plan
from compare.guard import Lanes
from compare.own_services import own_services, running_command
from compare.run import tell
from compare.target import all_targets, find_target
from compare.tolerances import limits_for
from models.artifacts import artifacts_root, reports_root
from models.errors import ModelError, TargetError, interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.guard import Guard
    from compare.rows import Row
    from export.bundle import Export

SECONDS_PER_TARGET = 30
READING_SECONDS = 120  # TensorFlow's import and the recording of the reference's answers

# What makes the artefacts, and the targets (by the first word of their names) that need them.
STEPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lite": (
        ("-m", "lite", "--variants", "deployed"),
        ("lite", "edge", "litertjs"),
    ),
    "web": (("-m", "web.convert"), ("tfjs", "node")),
    "publish": (("-m", "serving.publish"), ("serving",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.check", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "path", metavar="SAVED_MODEL", type=Path, help="a SavedModel folder or a .keras file; it is only read"
    )
    parser.add_argument(
        "--inputs", type=Path, help="an .npz file with at least 4 rows per input, keys as in the signature"
    )
    parser.add_argument("--name", help="name in the tables and of the report's folder; default: from the path")
    parser.add_argument("--targets", default=os.environ.get("TARGETS", ""), help="comma-separated; default all")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    chosen = [name.strip() for name in options.targets.split(",") if name.strip()]
    failed = check(options.path, name=options.name, inputs=options.inputs, targets=chosen)
    print(f"checked in {time.perf_counter() - start:.0f} s")
    return 1 if failed else 0


def check(path: Path, *, name: str | None = None, inputs: Path | None = None, targets: Sequence[str] = ()) -> int:
    """Put one model through everything, print and write the report; the number of float targets that fail.

    Raises ModelError, one sentence with a remedy, when the input cannot be used.
    """
    name = name or name_of(path)
    root = artifacts_root() / "check" / name
    folder = reports_root() / "check" / name
    chosen = [find_target(target) for target in targets] or all_targets()
    with Lanes() as lanes:
        print(f"reading {path} and recording the reference's answers")
        export = _bring(lanes.of("savedmodel"), path, name, root, inputs)
        reasons = _convert(export, {target.name for target in chosen})
        lanes.stop()  # what comes now asks services of its own, on ports that a new process learns from its environment
        words = {target.name.split("-")[0] for target in chosen}
        with own_services(root, serving="serving" in words, edge="edge" in words) as unwell:
            reasons |= unwell

            def why_skip(row: Row) -> str | None:
                return reasons.get(row.target.split("-")[0])

            comparison = Comparison(lanes, budget=Budget(cell=SECONDS_PER_TARGET), tell=tell, why_skip=why_skip)
            outcome = comparison.run(plan([export], chosen))
    _soften(outcome, export)
    data, beside = summary.compose(outcome), summary.tables(outcome)
    summary.write(folder, data, beside, outcome)
    page = report.write(folder, data, beside, note=_note(export), load=False)
    screen = terminal.console()
    terminal.show(screen, data, beside, page, None)
    screen.print(_note(export), markup=False, soft_wrap=True)
    return data["failed"]


def name_of(path: Path) -> str:
    """A model's name from its path; of ``model/2`` it is ``model``."""
    path = path.expanduser().resolve()
    stem = path.parent.name if path.name.isdigit() else path.name.removesuffix(".keras")
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_") or "model"


def _bring(guard: Guard, path: Path, name: str, root: Path, inputs: Path | None) -> Export:
    try:
        return guard.call("bring", path, name, root, inputs, timeout=READING_SECONDS)
    except TargetError as error:
        message = str(error)
        if not message.startswith(str(path)) and type(error) is not TargetError:
            message = f"{path} cannot be read: {message}"  # it hung or crashed, and said nothing of its path
        raise ModelError(message) from error


def _convert(export: Export, targets: set[str]) -> dict[str, str]:
    """Run the rooms' own converters over this one export, lite and web side by side; reasons by first word of the target."""
    environment = {**os.environ, "ARTIFACTS": str(export.root), "MODELS": export.model}
    words = {target.split("-")[0] for target in targets}
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for steps in (("lite", "web"), ("publish",)):
            with ExitStack() as stack:
                running = {}
                for step in steps:
                    arguments, needed_by = STEPS[step]
                    if not words & {*needed_by, "serving"} or (step == "web" and not words & set(needed_by)):
                        continue
                    print(f"converting: {step}")
                    log = Path(folder) / step
                    command = (sys.executable, *arguments)
                    running[step] = (
                        stack.enter_context(running_command(command, log=log, environment=environment)),
                        log,
                    )
                deadline = time.monotonic() + SECONDS_PER_TARGET * max(1, sum(_needs(t, steps) for t in targets))
                for step, (process, log) in running.items():
                    if reason := _outcome(process, log, deadline):
                        reasons |= dict.fromkeys(STEPS[step][1], f"{step}: {reason}")
    return reasons


def _needs(target: str, steps: Sequence[str]) -> bool:
    return any(target.split("-")[0] in STEPS[step][1] for step in steps)


def _outcome(process, log: Path, deadline: float) -> str:
    """Wait for a converter: an empty text, or why there is nothing to run."""
    while process.poll() is None:
        if time.monotonic() > deadline:
            return f"the conversion did not finish within its {SECONDS_PER_TARGET} s per target and was cut off"
        time.sleep(0.05)
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"the conversion ended with exit code {process.returncode}"


def _soften(outcome: Outcome, export: Export) -> None:
    """Quantized rows have no labels to be judged by, and a random model has no right answer: both are told, not judged."""
    deterministic = export.description.get("brought", {}).get("deterministic", True)
    for row in outcome.rows:
        if row.verdict.verdict == "skipped":
            continue
        if limits_for(row.precision).tolerance is None:
            told = row.verdict.reason or "quantized"
            row.verdict = replace(row.verdict, verdict="info", reason=told)
        elif not deterministic and row.verdict.verdict == "fail" and row.verdict.outputs:
            told = "the model itself answers the same input differently each time, so values cannot be compared"
            row.verdict = replace(row.verdict, verdict="info", reason=f"{told} ({row.verdict.reason})", next="")


def _note(export: Export) -> str:
    """What was asked, in one or two sentences."""
    brought = export.description.get("brought", {})
    rows = sum(case.rows for case in export.evidence.cases(brought.get("signature", "serving_default")))
    told = f"Signature {brought.get('signature', 'serving_default')}, {rows} rows."
    if brought.get("inputs") == "made up":
        told += (
            " The inputs were made up: floats from N(0, 1), integers 0 or 1, strings from a fixed list."
            " Give INPUTS=file.npz with real rows for a verdict about your data."
        )
    if sizes := brought.get("chosen_sizes"):
        chosen = ", ".join(f"{name} {size}" for name, size in sizes.items())
        told += f" Unknown inner sizes were taken as: {chosen}."
    return told


if __name__ == "__main__":
    interruptible()
    run_cli(main)
