"""``reports/index.html``: the summary as one file that opens without network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from compare import charts, terminal, units
from models.artifacts import write_whole

WORDS = {"pass": "pass", "fail": "FAIL", "skipped": "skipped", "info": "info"}
SIGNS = {"pass": "✓", "fail": "✗", "skipped": "–", "info": "i"}


def write(folder: Path, summary: dict[str, Any], beside: dict[str, Any], *, note: str = "") -> Path:
    """Render into ``folder/index.html``; its path. ``note`` stands under the verdict (what was compared, and how)."""
    path = folder / "index.html"
    with write_whole(path) as temporary:
        temporary.write_text(render(summary, beside, note=note))
    return path


def render(summary: dict[str, Any], beside: dict[str, Any], *, note: str = "") -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        ms=units.milliseconds, size=units.size, error=units.error, share=units.share, number=units.number
    )
    newest = _newest(summary["rows"])
    models = list(dict.fromkeys(row["model"] for row in newest))
    return environment.get_template("report.html.j2").render(
        summary=summary,
        note=note,
        models=models,
        targets=list(dict.fromkeys(row["target"] for row in newest)),
        cell={(row["model"], row["target"]): row for row in newest},
        by_model={model: [row for row in newest if row["model"] == model] for model in models},
        failures=[row for row in summary["rows"] if row["verdict"] == "fail"],
        skips=terminal.grouped_reasons(summary["rows"], ("skipped", "info")),
        remarks=terminal.grouped_reasons(summary["rows"], ("pass",)),
        shifts=beside["versions"],
        nonfinite=terminal.grouped_nonfinite(beside["nonfinite"]),
        charts=charts,
        worst=terminal.worst,
        rule=terminal.rule,
        signs=SIGNS,
        words=WORDS,
    )


def _newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of each model's highest version, which the matrix and the charts show."""
    highest = {row["model"]: max(r["version"] for r in rows if r["model"] == row["model"]) for row in rows}
    return [row for row in rows if row["version"] == highest[row["model"]]]
