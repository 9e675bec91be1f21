"""One run of a profile: its cells one after the other, the table, ``reports/load.json`` and the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from compare import environment, report
from export.bundle import find_exports
from loadtest.generator import Generator, Outcome, Plan
from loadtest.phases import phases, snapshot
from loadtest.questions import serialise_us
from loadtest.services import SERVICES, find_service
from loadtest.watched import Watched
from models.artifacts import write_json
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.bundle import Export
    from loadtest.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to ask; empty means everything there is."""

    profile: Profile
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    workers: int = 1
    seed: int = 0


def run_profile(selection: Selection, *, tell: Callable[[str], None]) -> dict[str, Any]:
    """``load.json`` as data; progress through ``tell``, a line for each cell.

    Raises TargetError, ModelError or DeployError before the first request when a cell cannot be asked.
    """
    newest = {export.model: export for export in find_exports(models=selection.models or None)}
    if not newest:
        raise ModelError("there is no export to ask; run `make deploy-all` to train and export the models")
    targets = [find_service(name).name for name in selection.targets] or list(SERVICES)
    cells = [(target, export) for target in targets for export in newest.values()]
    for target, export in cells:
        Watched(target, export)
    seconds = len(cells) * selection.profile.seconds
    tell(f"profile {selection.profile.name}: {len(cells)} cells, {seconds:.0f} s of load; {selection.profile.about}")
    rows = []
    with Generator(workers=selection.workers) as generator:
        for number, (target, export) in enumerate(cells, 1):
            for plan in selection.profile.plans(target, export.model, seed=selection.seed):
                rows.append(ask_cell(generator, plan, export))
            tell(f"{number:2}/{len(cells)}  {sentence(*rows[-2:])}")
    return compose(rows, profile=selection.profile.name, workers=selection.workers)


def ask_cell(generator: Generator, plan: Plan, export: Export) -> dict[str, Any]:
    """One row of ``load.json``."""
    service = find_service(plan.target)
    watched = Watched(plan.target, export)
    before = snapshot(plan.target, plan.address)
    outcome = generator.run(plan)
    return _row(
        outcome,
        export,
        watched,
        phases(before, snapshot(plan.target, plan.address), outcome, serialise_us(export, service.protocol)),
    )


def _row(outcome: Outcome, export: Export, watched: Watched, spent: dict[str, float | None]) -> dict[str, Any]:
    told = any(spent[phase] is not None for phase in ("server", "queue", "compute"))
    return {
        **outcome.row(),
        "version": export.version,
        "phases_us": spent if told else None,
        "server": watched.cost(outcome.sent),
    }


def sentence(opened: dict[str, Any], closed: dict[str, Any]) -> str:
    """A cell's progress: "serving-rest  mlp: 303 answered, 0 failed, p99 3.1 ms; closed loop p99 1.2 ms"."""
    figures = [row["latency_ms"]["p99"] for row in (opened, closed)]
    p99, closed_p99 = ("–" if value is None else f"{value:.3g} ms" for value in figures)
    marks = "; INVALID" if opened["invalid"] or closed["invalid"] else ""
    return (
        f"{opened['target']:<13} {opened['model']}: {opened['answered']} answered, {opened['failed']} failed, "
        f"p99 {p99}; closed loop p99 {closed_p99}{marks}"
    )


# ---------------------------------------------------------------- load.json


@cache
def schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("load.schema.json").read_text())


def compose(rows: list[dict[str, Any]], *, profile: str, workers: int) -> dict[str, Any]:
    """Raises jsonschema.ValidationError when it is not in the form that the schema states."""
    created = datetime.now(UTC)
    data = {
        "schema": 1,
        "run_id": created.strftime("%Y%m%d-%H%M%S"),
        "created": created.isoformat(timespec="seconds"),
        "host": environment.host(),
        "versions": environment.versions(),
        "profile": profile,
        "workers": workers,
        "cells": rows,
    }
    jsonschema.Draft202012Validator(schema()).validate(data)
    return data


def write(folder: Path, data: dict[str, Any]) -> Path:
    """Write ``load.json`` and its copy in the history, and render the report again; the page to look at, or the file."""
    path = folder / "load.json"
    write_json(folder / "history" / data["run_id"] / "load.json", data)
    write_json(path, data)
    report.write_again(folder)
    page = folder / "index.html"
    return page if page.is_file() else path
