"""``reports/index.html``: the one report, a file that opens without network, and the same data as JSON, CSV and pictures.

Beside it: ``report.json``, ``csv/<table>.csv``, ``charts/<name>.svg`` and ``.png``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import jsonschema

from compare import load_files, summary, terminal, tidy, units
from compare.gauge import gauge
from models.artifacts import read_json, write_json, write_whole
from models.errors import ArtifactError

WORDS = {"pass": "pass", "fail": "FAIL", "skipped": "skipped", "info": "info"}
SIGNS = {"pass": "✓", "fail": "✗", "skipped": "–", "info": "i"}


def write(folder: Path, data: dict[str, Any], beside: dict[str, Any], *, note: str = "", load: bool = True) -> Path:
    """Render into ``folder/index.html``; its path. ``note`` stands under the verdict (what was compared, and how).

    ``load``: whether load tests belong to it, whose files lie in ``folder``.
    """
    from compare.charts import canvas, sections  # matplotlib takes a second or more, which only a report is worth

    found = {which: load_files.read(folder, which) for which in load_files.KINDS} if load else {}
    lite = _lite(folder)
    tables = tidy.tables(data, beside, found, lite)
    shown = _newest(data["rows"])
    by_model = {m: [row for row in shown if row["model"] == m] for m in dict.fromkeys(row["model"] for row in shown)}
    charts = sections.draw(by_model, found)
    canvas.write(folder / "charts", [chart for drawn in charts.values() for _, chart in drawn])
    tidy.write(folder / "csv", tables)
    told = {k: data[k] for k in ("run_id", "created", "host", "versions", "passed", "failed", "skipped", "info")}
    missing = {which: of.trouble for which, of in found.items() if of.trouble}
    write_json(folder / "report.json", {"schema": 1, **told, "note": note, "missing": missing, **tables})
    path = folder / "index.html"
    with write_whole(path) as temporary:
        temporary.write_text(
            templates()
            .get_template("report.html.j2")
            .render(
                summary=data,
                note=note,
                lite_report=(folder / "lite.html").is_file(),
                summary_file=(folder / "summary.json").is_file(),
                models=list(by_model),
                targets=list(dict.fromkeys(row["target"] for row in shown)),
                cell={(row["model"], row["target"]): row for row in shown},
                by_model=by_model,
                failures=[row for row in data["rows"] if row["verdict"] == "fail"],
                skips=terminal.grouped_reasons(data["rows"], ("skipped", "info")),
                remarks=terminal.grouped_reasons(data["rows"], ("pass",)),
                shifts=beside["versions"],
                nonfinite=terminal.grouped_nonfinite(beside["nonfinite"]),
                load=found,
                load_said=_load_said(found["load"].entries) if found else "",
                events_said=_events_said(found["events"].entries) if found else "",
                quantization=tables.get("quantization", []),
                tables=list(tables),
                charts=charts,
                gauge=gauge,
                worst=terminal.worst,
                rule=terminal.rule,
                signs=SIGNS,
                words=WORDS,
            )
        )
    return path


def write_again(folder: Path) -> None:
    """Render the last comparison's report once more, because something new lies beside it: a load test, the lite report.

    Without a comparison, or with one that is damaged or of an older form, the page shows the load tests alone; with none of them, nothing is done.
    """
    data = _last(folder)
    if data is not None:
        write(folder, data, tables_of(folder, data))


def tables_of(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The tables without verdict that were written with a summary; empty ones where its history is gone or damaged."""
    try:
        return read_json(folder / "history" / data["run_id"] / "tables.json")
    except ArtifactError:
        return {"versions": [], "nonfinite": []}


def templates(*folders: Path) -> jinja2.Environment:
    """For the pages of this room; ``folders`` are looked into before it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        ms=units.milliseconds,
        us=units.microseconds,
        size=units.size,
        error=units.error,
        share=units.share,
        number=units.number,
        count=units.count,
    )
    return environment


def _last(folder: Path) -> dict[str, Any] | None:
    """The last comparison's summary; else one without rows, of the time of the load test that lies here; else None."""
    path = folder / "summary.json"
    if path.is_file():
        try:
            data = read_json(path)
            summary.validate(data)
            return data
        except (ArtifactError, jsonschema.ValidationError):
            pass  # damaged, or of an older form
    measured = [load_files.read(folder, which) for which in load_files.KINDS]
    newest = max((found for found in measured if found.entries), key=lambda found: found.created, default=None)
    return summary.empty(newest.run_id, newest.created) if newest else None


def _lite(folder: Path) -> dict[str, Any] | None:
    """The lite report's document; None where there is none that can be used."""
    from compare.quantization import document

    try:
        data = read_json(folder / "lite.json")
        document.validate(data)
    except (ArtifactError, jsonschema.ValidationError):
        return None
    return data


def _load_said(cells: list[dict[str, Any]]) -> str:
    """All cells in a line; nothing without any."""
    failed, invalid = (sum(bool(cell[name]) for cell in cells) for name in ("failed", "invalid"))
    return f"{len(cells)} runs, {failed} with failed requests, {invalid} not valid" if cells else ""


def _events_said(events: list[dict[str, Any]]) -> str:
    """Failed requests of those events that may fail some, and of those that may not; nothing without any."""
    said = []
    for strict in (True, False):
        some = [event for event in events if (event["allowed_failed"] is not None) == strict]
        if some:
            failed, sent = (int(sum(event[name] or 0 for event in some)) for name in ("failed", "sent"))
            names = ", ".join(dict.fromkeys(event["event"] for event in some))
            said.append(f"{names}: {failed:,} of {sent:,} requests failed")
    if invalid := sum(bool(event["invalid"]) for event in events):
        said.append(f"{invalid} not valid")
    return "; ".join(said)


def _newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of each model's highest version, which the matrix and the charts show."""
    highest = {row["model"]: max(r["version"] for r in rows if r["model"] == row["model"]) for row in rows}
    return [row for row in rows if row["version"] == highest[row["model"]]]
