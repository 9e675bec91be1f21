"""A report's data as flat tables, one row per observation and units in the names: what the CSV files and report.json hold."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from compare.terminal import worst
from models.artifacts import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from compare.load_files import Found

Table = list[dict[str, Any]]


def tables(
    summary: dict[str, Any], beside: dict[str, Any], load: Mapping[str, Found], lite: dict[str, Any] | None
) -> dict[str, Table]:
    """Every table by its name; empty ones are left out."""
    rows = summary["rows"]
    cells = load["load"].entries if load else []
    found = {
        "parity": [_parity(row) for row in rows],
        "latency": [_key(row) | t for row in rows for t in row["latency"]],
        "cost": [_cost(row) for row in rows if row["cpu_us"] or row["rss_bytes"]]
        + [_cost_under_load(cell) for cell in cells if any(cell["server"].values()) and not cell["invalid"]],
        "load": [_load(cell) for cell in cells],
        "curves": [point for curve in load["curves"].entries for point in _curve(curve)] if load else [],
        "events": [moment for event in load["events"].entries for moment in _event(event)] if load else [],
        "quantization": quantization(rows, lite),
        "versions": beside["versions"],
        "nonfinite": [
            {k: a[k] for k in ("model", "version", "target")} | {f"answer_to_{k}": v for k, v in a["answers"].items()}
            for a in beside["nonfinite"]
        ],
    }
    return {name: table for name, table in found.items() if table}


def write(folder: Path, found: Mapping[str, Table]) -> None:
    """Each table as ``<name>.csv``; an empty field is something that was not measured."""
    with write_whole(folder) as temporary:
        temporary.mkdir()
        for name, table in found.items():
            columns = list(dict.fromkeys(column for row in table for column in row))
            with (temporary / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(table)


def quantization(rows: Sequence[dict[str, Any]], lite: dict[str, Any] | None) -> Table:
    """The .tflite variants of the newest versions: what the comparison says of them, and the lite report where there is one."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    newest = {row["model"]: max(r["version"] for r in rows if r["model"] == row["model"]) for row in rows}
    for row in rows:
        variant = row["target"].removeprefix("lite-")
        if variant == row["target"] or row["version"] != newest[row["model"]] or not row["outputs"]:
            continue
        metric, decision = row["metric"] or {}, row["decision"] or {}
        found[row["model"], row["version"], variant] = _key(row, "variant", variant) | {
            "verdict": row["verdict"],
            "file_bytes": row["artifact_bytes"],
            "metric": metric.get("name"),
            "metric_reference": metric.get("reference"),
            "metric_value": metric.get("value"),
            "clear_agreement": decision.get("clear_agreement"),
            "max_abs_error": worst(row, "max_abs"),
            "p50_ms": row["latency"][0]["p50_ms"] if row["latency"] else None,
        }
    for model in (lite or {"models": []})["models"]:
        for v in model["variants"]:
            if v["error"] or model["stand_in"]:
                continue
            key = (model["model"], model["version"], v["variant"])
            quality = v["quality"] or {}
            metric, agreement = quality.get("metric") or {}, quality.get("agreement") or {}
            own = {
                "model": key[0],
                "version": key[1],
                "variant": key[2],
                "verdict": quality.get("verdict", "fail"),
                "file_bytes": v["bytes"],
                "metric": metric.get("name"),
                "metric_reference": metric.get("reference"),
                "metric_value": metric.get("value"),
                "clear_agreement": agreement.get("clear_agreement"),
                "max_abs_error": quality.get("max_abs"),
            }
            invoke = (t["p50_us"] for t in v["latency"] if (t["call"], t["delegate"], t["threads"]) == INVOKE)
            own_memory = v["memory"]["own_bytes"] if v["memory"] else None
            found[key] = (own | found.get(key, {})) | {
                "gzip_bytes": v["gzip_bytes"],
                "invoke_p50_us": next(invoke, None),
                "memory_bytes": own_memory,
            }
    return [found[key] for key in sorted(found, key=lambda k: k[0])]


INVOKE = ("invoke", "XNNPACK", 1)  # call, delegate, threads


def _key(row: dict[str, Any], name: str = "target", value: str | None = None) -> dict[str, Any]:
    return {"model": row["model"], "version": row["version"], name: value or row["target"]}


def _parity(row: dict[str, Any]) -> dict[str, Any]:
    decision, metric = row["decision"] or {}, row["metric"] or {}
    return _key(row) | {
        "variant": row["variant"],
        "precision": row["precision"],
        "verdict": row["verdict"],
        "max_abs_error": worst(row, "max_abs"),
        "p99_abs_error": worst(row, "p99_abs"),
        "max_rel_error": worst(row, "max_rel"),
        "tolerance": worst(row, "tolerance"),
        "would_pass_at": worst(row, "would_pass_at"),
        "agreement": decision.get("agreement"),
        "clear_agreement": decision.get("clear_agreement"),
        "agreement_rows": decision.get("n"),
        "metric": metric.get("name"),
        "metric_reference": metric.get("reference"),
        "metric_value": metric.get("value"),
        "artifact_bytes": row["artifact_bytes"],
        "artifact_sha256": row["artifact_sha256"],
        "reason": row["reason"],
    }


def _cost(row: dict[str, Any]) -> dict[str, Any]:
    """CPU µs per inference is CPU ms per 1,000 of them."""
    return _key(row) | {
        "measured": "one request at a time",
        "rate_per_s": None,
        "cpu_ms_per_1000_inferences": row["cpu_us"],
        "memory_bytes": row["rss_bytes"],
    }


def _cost_under_load(cell: dict[str, Any]) -> dict[str, Any]:
    return _key(cell) | {
        "measured": f"{cell['loop']} loop",
        "rate_per_s": cell["rate"],
        "cpu_ms_per_1000_inferences": cell["server"]["cpu_us"],
        "memory_bytes": cell["server"]["rss_bytes"],
    }


def _load(cell: dict[str, Any]) -> dict[str, Any]:
    return _key(cell) | {
        "loop": cell["loop"],
        "arrival": cell["arrival"],
        "rate_asked_per_s": cell["rate_asked"],
        "rate_answered_per_s": cell["rate"],
        **{name: cell[name] for name in ("users", "seconds", "sent", "answered", "failed", "wrong", "checked", "late")},
        "late_max_ms": cell["late_max_ms"],
        **{f"latency_{name}_ms": value for name, value in cell["latency_ms"].items()},
        **{f"service_{name}_ms": value for name, value in cell["service_ms"].items()},
        "generator_cpu_share": cell["generator"]["cpu"],
        "generator_overhead_us": cell["generator"]["overhead_us"],
        "generator_workers": cell["generator"]["workers"],
        **{f"{name}_us": value for name, value in cell["phases_us"].items()},
        "server_cpu_us": cell["server"]["cpu_us"],
        "server_rss_bytes": cell["server"]["rss_bytes"],
        "errors": "; ".join(f"{count:g} × {message}" for message, count in cell["errors"]),
        "invalid": cell["invalid"],
    }


def _curve(curve: dict[str, Any]) -> Table:
    return [
        {
            "model": curve["model"],
            "target": curve["target"],
            "bound_ms": curve["bound_ms"],
            "percentile": curve["percentile"],
            "rate_asked_per_s": point["rate_asked"],
            "rate_answered_per_s": point["rate"],
            "p50_ms": point["p50_ms"],
            "p99_ms": point["p99_ms"],
            "failed": point["failed"],
            "invalid": point["invalid"],
            "highest_rate_per_s": curve["highest_rate_per_s"],
            "highest_is": "at least" if curve["at_least"] else "",
            "created": curve["created"],
            "host": curve["host"],
        }
        for point in curve["points"]
    ]


def _event(event: dict[str, Any]) -> Table:
    """The moments of its timeline; what was done stands with the moment in which it was done."""
    starts = [moment["at_s"] for moment in event["timeline"]]
    done: dict[float, list[str]] = {}
    for mark in event["marks"]:
        done.setdefault(max([s for s in starts if s <= mark["at_s"]], default=min(starts, default=0.0)), []).append(
            mark["what"]
        )
    return [
        {
            "model": event["model"],
            "target": event["target"],
            "event": event["event"],
            "rate_per_s": event["rate"],
            **moment,
            "mark": "; ".join(done.get(moment["at_s"], [])),
        }
        for moment in event["timeline"]
    ]
