"""``make edge-arm``: the edge bundle on emulated ARM machines, its answers compared with this machine's.

Exit code 0: all are the same, or nothing can be emulated here (it says why); 1: some differ.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from compare.arm import machine
from compare.arm.debian import CannotEmulate
from compare.arm.run import ArmRun, Row, run
from deploy.bundle import VARIANTS, names
from deploy.columns import columns
from models.artifacts import reports_root, write_json
from models.errors import interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.arm", description=__doc__.splitlines()[0])
    kinds = ",".join(machine.KINDS)
    parser.add_argument("--arch", type=names, default=kinds, metavar="NAME,…", help=f"default: {kinds}")
    models = os.environ.get("MODELS", "")  # the same setting as for every step of the line
    parser.add_argument("--models", type=names, default=models, metavar="NAME,…", help="default: all of the bundle")
    variants = ",".join(VARIANTS)
    parser.add_argument("--variants", type=names, default=variants, metavar="NAME,…", help=f"default: {variants}")
    parser.add_argument("--versions", choices=["newest", "all"], default="all", help="default: all")
    options = parser.parse_args(argv)
    interruptible()
    start = time.monotonic()
    runs: list[ArmRun] = []
    skipped: dict[str, str] = {}
    for arch in options.arch:
        try:
            runs.append(run(arch, models=options.models, variants=options.variants, versions=options.versions))
        except CannotEmulate as error:
            skipped[arch] = str(error)
    rows = [row for each in runs for row in each.rows]
    written = _write(runs, skipped)
    if rows:
        print(f"\n{table(rows)}\n")
    for row in rows:
        if row.reason:
            print(f"{row.arch} {row.model} v{row.version} {row.variant}: {row.reason}")
    for each in runs:
        print(f"{each.arch}: {each.emulator}, {each.seconds:.0f} s (emulated)")
    for arch, reason in skipped.items():
        print(f"{arch}: skipped: {reason}")
    wrong = [row for row in rows if not row.good]
    print(
        f"{len(rows) - len(wrong)} of {len(rows)} files answer on ARM as here, {time.monotonic() - start:.0f} s, "
        f"{machine.disk_bytes() / 1e6:.0f} MB in artifacts/arm: {written}"
    )
    return 1 if wrong else 0


def table(rows: Sequence[Row]) -> str:
    lines = [("machine", "model", "file", "runtime", "rows", "answers", "steps", "error", "HTTP")]
    for row in rows:
        found = row.found
        answers = row.verdict
        if found and found.differing:
            answers += f", {found.differing} rows with other bits" if row.verdict == "differs" else ""
        lines.append(
            (
                row.arch,
                f"{row.model} v{row.version}",
                row.variant,
                row.runtime,
                str(found.rows) if found else "–",
                f"✗ {answers}" if row.verdict == "differs" else answers,
                str(found.steps) if found else "–",
                f"{found.error:.0e}" if found else "–",
                row.http or "–",
            )
        )
    return columns(lines)


def _write(runs: Sequence[ArmRun], skipped: dict[str, str]) -> str:
    """``reports/arm.json``, and beside it what ``make compare-import`` takes."""
    folder = reports_root()
    told: dict[str, Any] = {"schema": 1, "skipped": skipped, "machines": {}}
    for each in runs:
        told["machines"][each.arch] = {
            "emulator": each.emulator,
            "seconds_emulated": round(each.seconds, 1),
            "rows": [row.to_json() for row in each.rows],
        }
        if each.bench:
            write_json(folder / f"arm-{each.arch}.json", each.bench)
    write_json(folder / "arm.json", told)
    return str(folder / "arm.json")


if __name__ == "__main__":
    run_cli(main)
