"""What a load test, a search and events leave beside a report: small, and in the form of real ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HEAD = {
    "schema": 1,
    "run_id": "20261126-050000",
    "created": "2026-11-26T05:00:00+00:00",
    "host": {"name": "vm"},
    "versions": {"python": "3.11"},
}
LATE = "the generator could not keep its schedule: 38 of 400 sends were late, the latest by 61 ms; take a lower rate"


def latencies(p50: float) -> dict[str, float]:
    factors = {"p50": 1, "p90": 1.5, "p95": 1.9, "p99": 3.1, "p999": 9.0, "max": 14.0, "mean": 1.2}
    return {name: round(p50 * factor, 3) for name, factor in factors.items()}


def timeline(bins: int, p50: float, *, dead: range = range(0)) -> list[dict[str, Any]]:
    """Of 25 requests in each quarter of a second; in ``dead`` ones all of them fail."""
    return [
        {"at_s": i / 4, "sent": 25, "answered": 0, "failed": 25, "p50_ms": None, "p99_ms": None, "max_ms": None}
        if i in dead
        else {
            "at_s": i / 4,
            "sent": 25,
            "answered": 25,
            "failed": 0,
            "p50_ms": p50 * (1 + 0.01 * (i * 7 % 5)),
            "p99_ms": p50 * 3,
            "max_ms": p50 * 5,
        }
        for i in range(bins)
    ]


def cell(target: str, loop: str, p50: float, *, model: str = "linear", invalid: str | None = None) -> dict[str, Any]:
    return {
        "model": model,
        "version": 2,
        "target": target,
        "loop": loop,
        "arrival": "poisson",
        "rate_asked": 100.0 if loop == "open" else None,
        "users": None if loop == "open" else 4,
        "seconds": 4.0,
        "sent": 400,
        "answered": 399,
        "failed": 1,
        "wrong": 1,
        "checked": 40,
        "late": 38 if invalid else 3,
        "late_max_ms": 61.0 if invalid else 1.2,
        "rate": 99.7,
        "latency_ms": latencies(p50),
        "service_ms": latencies(p50 * 0.9),
        "histogram": "SElTVEZB",
        "generator": {"cpu": 0.2, "overhead_us": 180.0, "workers": 1},
        "invalid": invalid,
        "phases_us": {"serialise": 12.0, "wire": 300.0, "server": 400.0, "queue": None, "compute": 90.0},
        "server": {"cpu_us": 640.0, "rss_bytes": 171000000},
        "errors": [{"message": "a wrong answer <b>", "count": 1}],
        "timeline": timeline(16, p50),
    }


def cells() -> dict[str, Any]:
    found = [cell("serving-rest", "open", 1.5), cell("serving-rest", "closed", 1.2)]
    return {**HEAD, "profile": "smoke", "workers": 1, "cells": [*found, cell("edge-http", "open", 3.0, invalid=LATE)]}


def curves() -> dict[str, Any]:
    def curve(target: str, base: float, capacity: float) -> dict[str, Any]:
        rates = [r for r in (25, 50, 100, 200, 400, 800) if r < 1.3 * capacity]
        points = [
            {
                "rate_asked": r,
                "rate": min(r, capacity),
                "p50_ms": base,
                "p99_ms": 2 * base / (1.02 - min(r / capacity, 1)),
                "failed": 0,
                "invalid": LATE if r > capacity else None,
            }
            for r in rates
        ]
        highest = {"rate": 0.8 * capacity, "p99_ms": 18.0, "at_least": target == "serving-grpc"}
        found = {
            "created": "2026-11-25T04:00:00+00:00" if target == "serving-grpc" else HEAD["created"],
            "host": HEAD["host"],
        }
        shape = {**found, "model": "linear", "target": target, "bound_ms": 20.0, "percentile": 99, "points": points}
        return {**shape, "highest": highest, "reason": "p99 is 31 ms at the next rate"}

    return {**HEAD, "curves": [curve("serving-rest", 1.3, 500), curve("serving-grpc", 1.1, 700)]}


def events() -> dict[str, Any]:
    def event(name: str, marks: list[tuple[float, str]], failed: range) -> dict[str, Any]:
        return {
            "model": "linear",
            "target": "serving-rest",
            "event": name,
            "rate": 100.0,
            "marks": [{"at_s": at, "what": what} for at, what in marks],
            "sent": 1000,
            "answered": 1000 - 25 * len(failed),
            "failed": 25 * len(failed),
            "allowed_failed": None if name == "kill" else 0,
            "latency_ms": latencies(1.4),
            "invalid": None,
            "timeline": timeline(40, 1.4, dead=failed),
        }

    publish = event("publish", [(2.0, "version 3 published"), (3.1, "version 3 available")], range(0))
    kill = event("kill", [(3.0, "kill -9"), (3.05, "started"), (5.4, "answers")], range(12, 22))
    return {**HEAD, "events": [publish, kill]}


def write_all(folder: Path) -> None:
    for name, data in (("load", cells()), ("load-curves", curves()), ("load-events", events())):
        (folder / f"{name}.json").write_text(json.dumps(data))
