"""One run: choose the cells, compare, print, write ``reports/``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compare import devices, environment, report, summary, terminal
from compare.cold import ColdCache
from compare.comparison import Budget, Comparison, plan
from compare.guard import Lanes
from compare.proven import Proven
from compare.target import all_targets, find_target
from deploy.ports import port
from export.bundle import find_exports
from models.artifacts import REPOSITORY, read_json, reports_root
from models.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from pathlib import Path


BUILT = REPOSITORY / "web" / "demo" / "dist" / "built.json"


@dataclass(frozen=True)
class Selection:
    """What to compare; empty means everything there is."""

    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    every_version: bool = False
    latency: bool = True
    full_evidence: bool = False  # also where the same artefact has passed before


def run_comparison(selection: Selection, *, folder: Path | None = None) -> int:
    """Compare, print the tables, write summary and report below ``folder`` (default ``reports/``); the number of failed rows."""
    folder = folder or reports_root()
    exports = find_exports(models=selection.models or None)
    if not exports:
        raise ModelError("there is no export to compare; run `make deploy-all` to train and export the models")
    targets = [find_target(name) for name in selection.targets] or all_targets()
    imported = {} if selection.targets else devices.kept(folder)
    rows = plan(exports, targets, everything=selection.every_version)
    print(f"comparing {len(rows)} cells: {len({r.export.model for r in rows})} models on {len(targets)} targets")
    here = [environment.host(), environment.versions()]
    cold_cache = ColdCache(here) if selection.latency else None
    proven = None if selection.full_evidence else Proven([*here, page_built()])
    with Lanes() as lanes:
        comparison = Comparison(
            lanes, budget=Budget(steady=selection.latency), tell=tell, cold_cache=cold_cache, proven=proven
        )
        outcome = comparison.run(rows)
        lanes.let_go()
        print(f"where the time went: {where_the_time_went(comparison)}")
        data, beside = summary.compose(outcome), summary.tables(outcome)
        for name, bench in imported.items():
            data = summary.with_device(data, name, devices.rows_of(bench, exports)[0])
        summary.write(folder, data, beside, outcome)
        page = report.write(folder, data, beside)
    terminal.show(terminal.console(data["rows"]), data, beside, page, f"http://127.0.0.1:{port('WEB_PORT')}/")
    return data["failed"]


def page_built() -> str:
    """What the page's runtimes were built from; empty where it is not built."""
    with contextlib.suppress(ArtifactError):
        return str(read_json(BUILT)["made_from"])
    return ""


def where_the_time_went(comparison: Comparison) -> str:
    how = {
        "verdicts": "pages beside everything else"
        + f"; {comparison.proven_before} cells had passed before and were asked fewer rows"
        * bool(comparison.proven_before),
        "latency": "one request at a time, nothing beside it",
        "cold starts": "one at a time; kept until an artefact or the machine changes",
    }
    return ", ".join(f"{phase} {comparison.seconds[phase]:.0f} s ({how[phase]})" for phase in how)


def tell(piece: str) -> None:
    """Progress, seen at once in a pipe too."""
    print(piece, end="", flush=True)
