"""``reports/index.html``: the summary as one file that opens without network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import jsonschema

from compare import charts, summary, terminal, units
from models.artifacts import read_json, write_whole

WORDS = {"pass": "pass", "fail": "FAIL", "skipped": "skipped", "info": "info"}
SIGNS = {"pass": "✓", "fail": "✗", "skipped": "–", "info": "i"}


def write(folder: Path, data: dict[str, Any], beside: dict[str, Any], *, note: str = "") -> Path:
    """Render into ``folder/index.html``; its path. ``note`` stands under the verdict (what was compared, and how)."""
    path = folder / "index.html"
    with write_whole(path) as temporary:
        temporary.write_text(render(data, beside, note=note, lite_report=(folder / "lite.html").is_file()))
    return path


def write_again(folder: Path) -> None:
    """Render the last comparison's report once more, because another one has come to lie beside it, to which it links.

    Without a comparison, or with one of an older form, nothing is done.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return
    data = read_json(path)
    try:
        summary.validate(data)
    except jsonschema.ValidationError:
        return
    write(folder, data, tables_of(folder, data))


def tables_of(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The tables without verdict that were written with a summary; empty ones where its history is gone."""
    path = folder / "history" / data["run_id"] / "tables.json"
    return read_json(path) if path.is_file() else {"versions": [], "nonfinite": []}


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
    )
    return environment


def render(data: dict[str, Any], beside: dict[str, Any], *, note: str = "", lite_report: bool = False) -> str:
    newest = _newest(data["rows"])
    models = list(dict.fromkeys(row["model"] for row in newest))
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            summary=data,
            note=note,
            lite_report=lite_report,
            models=models,
            targets=list(dict.fromkeys(row["target"] for row in newest)),
            cell={(row["model"], row["target"]): row for row in newest},
            by_model={model: [row for row in newest if row["model"] == model] for model in models},
            failures=[row for row in data["rows"] if row["verdict"] == "fail"],
            skips=terminal.grouped_reasons(data["rows"], ("skipped", "info")),
            remarks=terminal.grouped_reasons(data["rows"], ("pass",)),
            shifts=beside["versions"],
            nonfinite=terminal.grouped_nonfinite(beside["nonfinite"]),
            charts=charts,
            worst=terminal.worst,
            rule=terminal.rule,
            signs=SIGNS,
            words=WORDS,
        )
    )


def _newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of each model's highest version, which the matrix and the charts show."""
    highest = {row["model"]: max(r["version"] for r in rows if r["model"] == row["model"]) for row in rows}
    return [row for row in rows if row["version"] == highest[row["model"]]]
