"""One run of a profile: its cells one after the other, as rows of ``load.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.bundle import find_exports
from loadtest.generator import Generator
from loadtest.phases import phases, snapshot
from loadtest.questions import serialise_us
from loadtest.services import SERVICES, find_service
from loadtest.watched import Watched
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.bundle import Export
    from loadtest.plan import Plan
    from loadtest.profiles import Profile

# A machine has busy moments: a run of at most so many seconds that is invalid is made again.
AGAIN_S, ATTEMPTS = 30.0, 3


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to ask; empty means everything there is."""

    profile: Profile
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    workers: int = 1
    seed: int = 0


def run_profile(selection: Selection, *, tell: Callable[[str], None]) -> dict[str, Any]:
    """What ``load.json`` says beside its head; progress through ``tell``, a line for each cell.

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
                rows.append(ask_until_valid(generator, plan, export, tell=tell))
            tell(f"{number:2}/{len(cells)}  {sentence(*rows[-2:])}")
    return {"profile": selection.profile.name, "workers": selection.workers, "cells": rows}


def ask_until_valid(generator: Generator, plan: Plan, export: Export, *, tell: Callable[[str], None]) -> dict[str, Any]:
    """The first row that is valid, else the last one. One with failed requests stands: no other run may hide them."""
    attempts = ATTEMPTS if plan.duration <= AGAIN_S else 1
    for attempt in range(1, attempts + 1):
        row = ask_cell(generator, plan, export) | {"attempts": attempt}
        if not row["invalid"] or row["failed"] or attempt == attempts:
            break
        tell(f"       {plan.target} {plan.model}, {plan.loop} loop, again: {row['invalid']}")
    return row


def ask_cell(generator: Generator, plan: Plan, export: Export) -> dict[str, Any]:
    """One row of ``load.json``."""
    service = find_service(plan.target)
    watched = Watched(plan.target, export)
    before = snapshot(plan.target, plan.address)
    outcome = generator.run(plan)
    spent = phases(before, snapshot(plan.target, plan.address), outcome, serialise_us(export, service.protocol))
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
