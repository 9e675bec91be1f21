"""``reports/load*.json``: composed, checked against its schema, kept in the history; then the report is rendered again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from compare import environment, report
from models.artifacts import read_json, reports_root, write_json
from models.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

CURVES, EVENTS = "load-curves", "load-events"
OF_CURVE = ("created", "host", "versions")  # of the search that found it


@cache
def schema(name: str) -> dict[str, Any]:
    return json.loads(Path(__file__).with_name(f"{name}.schema.json").read_text())


def head() -> dict[str, Any]:
    """What every file begins with: when, where, with what."""
    created = datetime.now(UTC)
    return {
        "schema": 1,
        "run_id": created.strftime("%Y%m%d-%H%M%S"),
        "created": created.isoformat(timespec="seconds"),
        "host": environment.host(),
        "versions": environment.versions(),
    }


def write(name: str, content: dict[str, Any], *, folder: Path | None = None) -> Path:
    """``<name>.json`` below ``folder`` (default ``reports/``), a copy of it below ``history/``; its path.

    Raises jsonschema.ValidationError when the content is not in the form that the schema states.
    """
    folder = folder or reports_root()
    data = head() | content
    jsonschema.Draft202012Validator(schema(name)).validate(data)
    path = folder / f"{name}.json"
    for file in (folder / "history" / data["run_id"] / path.name, path):
        write_json(file, data)
    report.write_again(folder)
    return path


def write_curves(curves: Sequence[dict[str, Any]], *, folder: Path | None = None) -> Path:
    """The curves in place of those of the same model and target; others that are there stay, with their own time and host."""
    folder, own = folder or reports_root(), head()
    made = [curve | {key: own[key] for key in OF_CURVE} for curve in curves]
    kept = {(curve["model"], curve["target"]): curve for curve in [*_known_curves(folder), *made]}
    return write(CURVES, own | {"curves": list(kept.values())}, folder=folder)


def _known_curves(folder: Path) -> list[dict[str, Any]]:
    """Of the last search's file; none where that is missing, damaged or of an older form."""
    try:
        data = read_json(folder / f"{CURVES}.json")
        jsonschema.Draft202012Validator(schema(CURVES)).validate(data)
    except (ArtifactError, jsonschema.ValidationError):
        return []
    return data["curves"]


def write_events(events: Sequence[dict[str, Any]], *, folder: Path | None = None) -> Path:
    return write(EVENTS, {"events": list(events)}, folder=folder)
