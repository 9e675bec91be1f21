"""What the load tests left beside a report: read, checked field by field, and told where it is missing or damaged.

The forms are those of ``loadtest/load.schema.json``. A report is never refused because of one of these files: what cannot
be read is a sentence in its place.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PERCENTILES = ("p50", "p90", "p95", "p99", "p999", "max", "mean")
PHASES = ("serialise", "wire", "server", "queue", "compute")


@dataclass(frozen=True)
class Kind:
    """``entries`` is where a file has its list, ``command`` what makes it."""

    file: str
    entries: str
    command: str


KINDS = {
    "load": Kind("load.json", "cells", "make loadtest"),
    "curves": Kind("load-curves.json", "curves", "make loadtest-search"),
    "events": Kind("load-events.json", "events", "make loadtest-events"),
}


@dataclass(frozen=True)
class Found:
    """The entries of one file, or in ``trouble`` why there are none, with the command that makes them."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""
    run_id: str = ""
    created: str = ""
    profile: str = ""  # of load.json


def read(folder: Path, which: str) -> Found:
    """``which``: "load", "curves" or "events"."""
    kind = KINDS[which]
    path = folder / kind.file
    if not path.is_file():
        return Found(trouble=f"not measured yet: {kind.command}")
    try:
        document = json.loads(path.read_text(), parse_constant=_refuse)
        if document["schema"] != 1:
            return Found(trouble=f"{kind.file} is of form {document['schema']}, not 1; measure again: {kind.command}")
        entries = [_READERS[which](entry) for entry in document[kind.entries]]
        told = {name: _text(document[name]) for name in ("run_id", "created")}
        return Found(entries, **told, profile=_text(document.get("profile") or ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        return Found(trouble=f"{kind.file} cannot be used ({why}); measure again: {kind.command}")


def cell(entry: dict[str, Any]) -> dict[str, Any]:
    """One cell of load.json with every field, None where it was not told. Raises KeyError, TypeError, ValueError."""
    generator, server = entry.get("generator") or {}, entry.get("server") or {}
    phases = entry.get("phases_us") or {}
    return {
        "model": _text(entry["model"]),
        "version": _number(entry.get("version")),
        "target": _text(entry["target"]),
        "loop": _text(entry["loop"]),
        "arrival": _text(entry.get("arrival") or ""),
        **{
            name: _number(entry.get(name))
            for name in ("rate_asked", "users", "seconds", "sent", "answered", "failed", "wrong", "checked", "late")
        },
        **{name: _number(entry.get(name)) for name in ("late_max_ms", "rate")},
        "latency_ms": {name: _number(entry["latency_ms"].get(name)) for name in PERCENTILES},
        "service_ms": {name: _number((entry.get("service_ms") or {}).get(name)) for name in PERCENTILES},
        "generator": {name: _number(generator.get(name)) for name in ("cpu", "overhead_us", "workers")},
        "invalid": _text(entry.get("invalid") or ""),
        "phases_us": {name: _number(phases.get(name)) for name in PHASES},
        "server": {name: _number(server.get(name)) for name in ("cpu_us", "rss_bytes")},
        "errors": [(_text(e["message"]), _number(e["count"])) for e in entry.get("errors") or []],
        "timeline": [_moment(m) for m in entry.get("timeline") or []],
    }


def _curve(entry: dict[str, Any]) -> dict[str, Any]:
    highest = entry.get("highest") or {}
    return {
        "model": _text(entry["model"]),
        "target": _text(entry["target"]),
        "bound_ms": _number(entry.get("bound_ms")),
        "percentile": _number(entry.get("percentile")),
        "points": [
            {
                **{name: _number(p.get(name)) for name in ("rate_asked", "rate", "p50_ms", "p99_ms", "failed")},
                "invalid": _text(p.get("invalid") or ""),
            }
            for p in entry["points"]
        ],
        "highest_rate_per_s": _number(highest.get("rate")),
        "highest_p99_ms": _number(highest.get("p99_ms")),
        "at_least": highest.get("at_least") is True,
        "created": _text(entry.get("created") or ""),
        "host": _text((entry.get("host") or {}).get("name") or ""),
        "reason": _text(entry.get("reason") or ""),
    }


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": _text(entry["model"]),
        "target": _text(entry["target"]),
        "event": _text(entry["event"]),
        **{name: _number(entry.get(name)) for name in ("rate", "sent", "answered", "failed", "allowed_failed")},
        "latency_ms": {name: _number((entry.get("latency_ms") or {}).get(name)) for name in PERCENTILES},
        "marks": [{"at_s": _needed(m["at_s"]), "what": _text(m["what"])} for m in entry["marks"]],
        "invalid": _text(entry.get("invalid") or ""),
        "timeline": [_moment(m) for m in entry["timeline"]],
    }


def _moment(entry: dict[str, Any]) -> dict[str, Any]:
    counts = {name: _number(entry.get(name)) or 0 for name in ("sent", "answered", "failed")}
    times = {name: _number(entry.get(name)) for name in ("p50_ms", "p99_ms", "max_ms")}
    return {"at_s": _needed(entry["at_s"]), **counts, **times}


_READERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"load": cell, "curves": _curve, "events": _event}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float | None:
    return None if value is None else _needed(value)


def _needed(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
