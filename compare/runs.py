"""``python -m compare.runs A B``: two runs of the history beside each other; each figure is noise or changed (``make compare-runs``).

Outputs, verdicts and artefacts are compared exactly; times by a test over their repeats (``repeats.py`` has the rules).
The repeats of a row are the blocks of requests in which a run asks all its targets in turn; of a load test's cell, the
moments of its timeline, or the cells where there are several alike. A and B may be several runs each, with commas: taken
together, they differ less from run to run, and smaller changes are found. Without A and B: which runs there are.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from compare import history, repeats, runs_shown
from compare.repeats import CHANGED, FEW_REPEATS, NOISE, Judged, Pair, Shift
from compare.terminal import worst
from models.artifacts import reports_root
from models.errors import ModelError, run_cli

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from compare.history import Run

LEAST_CALLS = 20  # of a block, for its 95th percentile to mean something
LEAST_CELLS = 5  # alike, for cells to be the repeats
MOST_BLOCKS = 20  # into which a timeline is cut: moments one after the other are not independent of each other
EXACT = ("verdict", "artifact_sha256", "artifact_bytes", "precision")
SINGLE = ("cold_ms", "first_ms")


def compare(a: Run, b: Run) -> dict[str, Any]:
    """Everything that is told, as data. Raises ModelError when the two have nothing in common."""
    both = [key for key in a.rows if key in b.rows]
    cells_a, cells_b = _by_cell(a.cells), _by_cell(b.cells)
    if not both and not cells_a.keys() & cells_b.keys():
        raise ModelError(
            f"{a.run_id} and {b.run_id} have no row in common; compare runs of the same models and targets"
        )
    judged, shifts = repeats.judge(pairs(a, b))
    failures = _failures(cells_a, cells_b)
    return {
        "schema": 1,
        "a": a.run_id,
        "b": b.run_id,
        "differences": _surroundings(a, b),
        "machine": [vars(shift) | {"told": _told(shift)} for shift in shifts if not shift.group],
        "groups": [vars(shift) for shift in shifts if shift.group],
        "rows": len(both),
        "exact": [change for key in both for change in _exact(key, a.rows[key], b.rows[key])],
        "figures": [_figure(j) for j in judged],
        "failures": failures,
        "single": [value for key in both for value in _single(key, a.rows[key], b.rows[key])],
        "only_in_a": [*(k for k in a.rows if k not in b.rows), *(k for k in cells_a if k not in cells_b)],
        "only_in_b": [*(k for k in b.rows if k not in a.rows), *(k for k in cells_b if k not in cells_a)],
        "invalid": [f"{c['model']} on {c['target']}, {c['loop']}" for c in a.cells + b.cells if c["invalid"]],
        "changed": sum(j.says == CHANGED for j in judged) + sum(f["says"] == CHANGED for f in failures),
        "noise": sum(j.says == NOISE for j in judged) + sum(f["says"] == NOISE for f in failures),
        "too_few": sum(j.says not in (CHANGED, NOISE) for j in judged),
    }


def pairs(a: Run, b: Run) -> list[Pair]:
    """Every time that both have, with its repeats."""
    cells_a, cells_b = _by_cell(a.cells), _by_cell(b.cells)
    found = [pair for key in a.rows if key in b.rows for pair in _latency(key, a, b)]
    return found + [pair for name in cells_a if name in cells_b for pair in _load(name, cells_a[name], cells_b[name])]


def _latency(key: str, a: Run, b: Run) -> list[Pair]:
    """p50, p95 and CPU time of one row, a value per block; seconds."""
    if key not in a.samples or key not in b.samples:
        return []
    model, version, target = key.split("/", 2)
    group = f"{model} v{version}"
    parts = [history.blocks(run, key) for run in (a, b)]
    if not all(parts):
        return []
    found = [Pair(group, target, "p50", *(np.array([np.median(block) for block in p]) for p in parts))]
    if all(len(block) >= LEAST_CALLS for p in parts for block in p):
        found.append(Pair(group, target, "p95", *(np.array([np.percentile(block, 95) for block in p]) for p in parts)))
    cpu = [
        run.samples[f"{key}:cpu_seconds"] / run.samples[f"{key}:calls"]
        for run in (a, b)
        if f"{key}:cpu_seconds" in run.samples
    ]
    if len(cpu) == 2 and all(np.all(c > 0) for c in cpu):
        found.append(Pair(group, target, "CPU", *cpu))
    return found


def _by_cell(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Valid cells by what was asked; those alike together."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        if not cell["invalid"]:
            at = (
                f"{cell['rate_asked']:g}/s"
                if cell["loop"] == "open" and cell["rate_asked"]
                else f"{cell['users'] or 0:g} user{'s' if cell['users'] != 1 else ''}"
            )
            found[f"{cell['model']} on {cell['target']}, {cell['loop']} {at}"].append(cell)
    return dict(found)


def _load(name: str, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[Pair]:
    """p50 and p99 under load; milliseconds. All cells of a kind are of one group: they ran one after the other."""
    group = f"{a[0]['loop']} loop"
    found = []
    for figure in ("p50", "p99"):
        values = [_cell_repeats(cells, figure) for cells in (a, b)]
        if all(len(v) for v in values):
            found.append(Pair(group, name, f"{figure} under load", *values))
    return found


def _cell_repeats(cells: list[dict[str, Any]], figure: str) -> NDArray:
    if len(cells) >= LEAST_CELLS:
        values = [cell["latency_ms"][figure] for cell in cells]
    else:
        moments = [m[f"{figure}_ms"] for cell in cells for m in cell["timeline"] if m["answered"]]
        moments = [m for m in moments if m]
        parts = np.array_split(moments, min(MOST_BLOCKS, len(moments))) if moments else []
        values = [float(np.median(part)) for part in parts]
    return np.array([v for v in values if v and np.isfinite(v)], float)


def _failures(a: dict[str, list[dict[str, Any]]], b: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Failed and wrong answers of the cells in both, where there were any: Fisher's exact test, corrected like the rest."""
    found: list[dict[str, Any]] = []
    for name in a:
        if name in b:
            counts = [
                (int(sum((c["failed"] or 0) for c in cells)), int(sum((c["sent"] or 0) for c in cells)))
                for cells in (a[name], b[name])
            ]
            if any(failed for failed, _ in counts) and all(0 <= failed <= sent for failed, sent in counts):
                found.append({"row": name, "a": counts[0], "b": counts[1], "p": repeats.counts_differ(*counts)})
    corrected = repeats.holm([float(f["p"]) for f in found])
    return [
        f | {"p": p, "says": CHANGED if p is not None and p < repeats.SURE else NOISE}
        for f, p in zip(found, corrected, strict=True)
    ]


def _exact(key: str, a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """What must be the same to the last bit. Errors only where both runs judged as many rows."""
    found = [{"row": key, "what": name, "a": a[name], "b": b[name]} for name in EXACT if a[name] != b[name]]
    counted = [[(o["name"], o["n"]) for o in row["outputs"]] for row in (a, b)]
    if counted[0] == counted[1]:
        errors = [worst(row, "max_abs") for row in (a, b)]
        if errors[0] != errors[1]:
            found.append({"row": key, "what": "max_abs_error", "a": errors[0], "b": errors[1]})
        if a["metric"] != b["metric"]:
            found.append({"row": key, "what": "metric", "a": a["metric"], "b": b["metric"]})
    return found


def _single(key: str, a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """What a run measures once: shown, never judged."""
    found = []
    for name in SINGLE:
        values = [row["latency"][0][name] if row["latency"] else None for row in (a, b)]
        if None not in values and values[0] != values[1]:
            found.append({"row": key, "figure": name, "a": values[0], "b": values[1], "says": FEW_REPEATS})
    return found


def _surroundings(a: Run, b: Run) -> list[str]:
    """Machine and packages that are not the same, a sentence each."""
    if a.summary is None or b.summary is None:
        return []
    found = []
    for name in ("name", "cpu", "cores", "system"):
        there = [str(run.summary["host"].get(name)) for run in (a, b) if run.summary]
        if there[0] != there[1]:
            found.append(
                f"the machines differ in {name}: {there[0]} in A, {there[1]} in B; times tell the machines apart"
            )
    for name in sorted(a.summary["versions"].keys() & b.summary["versions"].keys()):
        old, new = a.summary["versions"][name], b.summary["versions"][name]
        if old != new:
            found.append(f"{name}: {old} in A, {new} in B")
    return found


def _figure(judged: Judged) -> dict[str, Any]:
    pair = judged.pair
    return {
        "group": pair.group,
        "row": pair.row,
        "figure": pair.figure,
        "unit": "ms" if "load" in pair.figure else "s",
        "a": float(np.median(pair.a)),
        "b": float(np.median(pair.b)),
        "ratio": judged.ratio,
        "ratio_beside_the_others": judged.beside,
        "repeats": [len(pair.a), len(pair.b)],
        "p": judged.p,
        "says": judged.says,
    }


def _told(shift: Shift) -> str:
    if not shift.sure:
        return f"{shift.figure}: no shift of the whole machine ({shift.alike} of {shift.rows} rows moved the same way)"
    slower, times = ("slower", shift.ratio) if shift.ratio > 1 else ("faster", 1 / shift.ratio)
    return f"{shift.figure}: the machine was {times:.2f} × {slower} in B: the medians of {shift.alike} of {shift.rows} rows moved together"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.runs", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "a", nargs="?", metavar="A", help="run id, the earlier one, or several with commas; none: list the runs"
    )
    parser.add_argument("b", nargs="?", metavar="B", help="run id, the later one, or several")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    folder = reports_root()
    if options.a is None or options.b is None:
        if options.a is not None:
            raise ModelError(
                f"{options.a} beside which run? Write for example: make compare-runs A={options.a} B=<run id>"
            )
        usable, unusable = history.readable(folder)
        runs_shown.list_runs(folder, usable, unusable)
        return 0
    a, b = ([run_id.strip() for run_id in side.split(",")] for side in (options.a, options.b))
    history.refuse_repeated(a + b)
    result = compare(history.read_runs(folder, a), history.read_runs(folder, b))
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        runs_shown.show(result)
    return 0


if __name__ == "__main__":
    run_cli(main)
