"""``summary.json``: composed, checked against its schema, and kept in the history with the raw samples."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np

from compare import environment
from models.artifacts import write_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.comparison import Outcome
    from compare.rows import Row


@cache
def schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("summary.schema.json").read_text())


def compose(outcome: Outcome, *, created: datetime | None = None) -> dict[str, Any]:
    """The summary as data. Raises jsonschema.ValidationError when it is not in the form that the schema states."""
    created = created or datetime.now(UTC)
    said = {row.target: str(row.facts["runtime_version"]) for row in outcome.rows if row.facts.get("runtime_version")}
    summary = {
        "schema": 1,
        "run_id": created.strftime("%Y%m%d-%H%M%S"),
        "created": created.isoformat(timespec="seconds"),
        "host": environment.host(),
        "versions": {**environment.versions(), **said},
        **_counted([row.to_json() for row in outcome.rows]),
    }
    validate(summary)
    return summary


def empty(run_id: str, created: str) -> dict[str, Any]:
    """A summary in which nothing was compared: the frame of a report that has load tests alone."""
    versions = environment.versions()
    summary = {"schema": 1, "run_id": run_id, "created": created, "host": environment.host(), "versions": versions}
    return summary | _counted([])


def with_device(summary: dict[str, Any], device: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The summary with these rows in place of all that it had of ``<target>@<device>``; none takes the device out."""
    suffix = f"@{device}"
    merged = [row for row in summary["rows"] if not row["target"].endswith(suffix)]
    for row in rows:
        places = [
            i for i, r in enumerate(merged) if (r["model"], r["version"]) == (row.export.model, row.export.version)
        ]
        merged.insert(max(places, default=len(merged) - 1) + 1, row.to_json())
    versions = {name: said for name, said in summary["versions"].items() if not name.endswith(suffix)}
    said = {row.target: str(row.facts["runtime_version"]) for row in rows}
    changed = {**summary, "versions": versions | said, **_counted(merged)}
    validate(changed)
    return changed


def _counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows and how many there are of each verdict."""
    verdicts = {"passed": "pass", "failed": "fail", "skipped": "skipped", "info": "info"}
    return {"rows": rows} | {key: sum(row["verdict"] == verdict for row in rows) for key, verdict in verdicts.items()}


def validate(summary: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema()).validate(summary)


def tables(outcome: Outcome) -> dict[str, Any]:
    """The two tables without verdict: older version → newest, and what NaN and infinity give."""
    return {
        "versions": [
            {"model": model, "target": target, "old": old, "new": new, **asdict(shift)}
            for model, target, old, new, shift in outcome.shifts
        ],
        "nonfinite": [
            {"model": row.export.model, "version": row.export.version, "target": row.target, "answers": row.nonfinite}
            for row in outcome.rows
            if row.nonfinite
        ],
    }


def write(folder: Path, summary: dict[str, Any], beside: dict[str, Any], outcome: Outcome) -> Path:
    """Write the summary, and a copy with tables and raw samples (``Row.kept_samples``) under ``history/<run_id>/``; its path."""
    kept = folder / "history" / summary["run_id"]
    with write_whole(kept) as temporary:
        temporary.mkdir()
        for name, data in (("summary.json", summary), ("tables.json", beside)):
            (temporary / name).write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        samples = {name: kept for row in outcome.rows if row.blocks for name, kept in row.kept_samples().items()}
        np.savez_compressed(temporary / "samples.npz", **samples)  # type: ignore[arg-type]  # as in npz.py
    path = folder / "summary.json"
    write_json(path, summary)
    return path
