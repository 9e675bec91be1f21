"""Which charts a report has, by section: (heading, chart)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from compare.charts import comparison, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compare.charts.canvas import Chart
    from compare.load_files import Found

Drawn = dict[str, list[tuple[str, "Chart"]]]


def draw(by_model: Mapping[str, Sequence[dict[str, Any]]], found: Mapping[str, Found]) -> Drawn:
    """``by_model``: the rows of the summary to show; ``found``: what load tests left, by kind, or nothing."""
    drawn: Drawn = {}
    names: set[str] = set()

    def put(section: str, heading: str, name: str, title: str, function: Any, *arguments: Any) -> None:
        name = _file_name(name, names)
        if chart := function(*arguments, name=name, title=title):
            names.add(name)
            drawn.setdefault(section, []).append((heading, chart))

    for model, rows in by_model.items():
        timed = [(row["target"], row["latency"][0]) for row in rows if row["latency"]]
        put("latency", model, f"latency-{model}", f"{model}: p50, p95, p99 per target", comparison.latency, timed)
        put("starts", model, f"starts-{model}", f"{model}: cold, first, steady per target", comparison.starts, timed)
        spent = [(row["target"], row["cpu_us"], row["rss_bytes"]) for row in rows]
        put("cost", model, f"cost-{model}", f"{model}: CPU time per 1,000 inferences", comparison.cost, spent)
        passed = [row for row in rows if row["verdict"] == "pass"]
        measured = next((row["metric"]["name"] for row in passed if row["metric"]), None)
        if measured:
            title = f"{model}: artefact size against {measured}"
            put("size", f"{model}, {measured}", f"size-{model}", title, comparison.size_against_metric, passed)
        else:
            title = f"{model}: artefact size against error"
            put("size", f"{model}, error", f"size-{model}", title, comparison.size_against_error, rows)
    if not found:
        return drawn
    for model in dict.fromkeys(curve["model"] for curve in found["curves"].entries):
        curves = [curve for curve in found["curves"].entries if curve["model"] == model]
        put("curves", model, f"curves-{model}", f"{model}: p99 over answered requests per second", load.curves, curves)
    valid = [cell for cell in found["load"].entries if not cell["invalid"]]  # late sends would count as wire
    for model in dict.fromkeys(cell["model"] for cell in valid):
        cells = [(_cell_name(c), c["phases_us"]) for c in valid if c["model"] == model]
        put("phases", model, f"phases-{model}", f"{model}: where the time of a request goes", load.phases, cells)
    for event in found["events"].entries:
        heading = f"{event['model']} on {event['target']}: {event['event']}"
        name = f"event-{event['event']}-{event['model']}-{event['target']}"
        put("events", heading, name, f"{heading} under load", load.event, event["timeline"], event["marks"])
    return drawn


def _cell_name(cell: dict[str, Any]) -> str:
    at = f" {cell['rate_asked']:g}/s" if cell["loop"] == "open" and cell["rate_asked"] else ""
    return f"{cell['target']}, {cell['loop']}{at}"


def _file_name(name: str, taken: set[str]) -> str:
    """Of letters that every file system takes, and not taken yet."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    return next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, 1000))) if n not in taken)
