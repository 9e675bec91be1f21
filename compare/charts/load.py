"""Charts of the load tests: latency over throughput, where the time goes, and what happens at an event."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from compare import units
from compare.charts import scales
from compare.charts.canvas import (
    ACCENT,
    INK,
    LABEL,
    LINE,
    PAPER,
    SOFT,
    TICK,
    WIDTH,
    Canvas,
    chart,
    colours,
    rows,
    width,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

PHASES = ("serialise", "wire", "server", "queue", "compute")
SERIES: tuple[dict[str, Any], ...] = (
    {"color": ACCENT, "linestyle": "-", "marker": "o"},
    {"color": INK, "linestyle": (0, (5, 2)), "marker": "s"},
    {"color": SOFT, "linestyle": (0, (1.5, 1.5)), "marker": "^"},
    {"color": ACCENT, "linestyle": (0, (6, 2, 1.5, 2)), "marker": "D"},
)


@chart
def curves(found: Sequence[dict[str, Any]]) -> Canvas | None:
    """p99 over answered requests per second, a line per target; the bound dashed; invalid points as crosses beside it."""
    drawn = [(curve, [p for p in curve["points"] if p["rate"] and p["p99_ms"]]) for curve in found]
    drawn = [(curve, points) for curve, points in drawn if points]
    if not drawn:
        return None
    everything = [p for _, points in drawn for p in points]
    bounds = sorted({curve["bound_ms"] for curve, _ in drawn if curve["bound_ms"]})
    canvas = Canvas(260, left=62, top=14 + LINE, right=22, bottom=38)
    canvas.across(*scales.log_range([p["rate"] for p in everything], margin=0.12), "{:,.0f}".format, log=True)
    canvas.up(*scales.log_range([p["p99_ms"] for p in everything] + bounds), units.milliseconds, log=True)
    canvas.text(WIDTH - canvas.right, 8, "answered per second", colour=SOFT, size=TICK, ha="right")
    canvas.text(6, canvas.height - LABEL, "p99", colour=SOFT, size=TICK, va="center_baseline")
    for bound in bounds:
        canvas.axes.axhline(bound, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
    taken: list[scales.Box] = [(x - 5, x + 5, y - 5, y + 5) for p in everything for x, y in [_at(canvas, p)]]
    within = (canvas.left + 2, WIDTH - 2.0, canvas.bottom + 2, canvas.height - 2)
    labels = []
    for i, (curve, points) in enumerate(drawn):
        style = SERIES[i % len(SERIES)]
        valid = sorted((p for p in points if not p["invalid"]), key=lambda p: p["rate"])
        invalid = [p for p in points if p["invalid"]]
        canvas.axes.plot(
            [p["rate"] for p in valid],
            [p["p99_ms"] for p in valid],
            linewidth=1.4,
            markersize=4,
            clip_on=False,
            **style,
        )
        canvas.axes.plot(
            [p["rate"] for p in invalid], [p["p99_ms"] for p in invalid], "x", color=style["color"], markersize=5
        )
        label, at = curve["target"], max(valid or points, key=lambda p: p["rate"])
        if curve["highest_rate_per_s"]:
            label = f"{label} {'at least ' if curve['at_least'] else ''}{curve['highest_rate_per_s']:,.0f}/s"
            at = min(valid or points, key=lambda p: abs(p["rate"] - curve["highest_rate_per_s"]))
            ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": style["color"]}
            canvas.axes.plot([at["rate"]], [at["p99_ms"]], linestyle="", **ring)
        labels.append((label, style["color"], _at(canvas, at)))
    for label, colour, (x, y) in labels:
        place = scales.free_place(x, y, (width(label, LABEL), 13.0), within, taken)
        if abs(place[1] - y) > 6:
            end = min(max(x, place[0]), place[0] + width(label, LABEL))
            canvas.leader(x, y, end, place[1] + (5 if place[1] < y else -5))
        canvas.text(*place, label, colour=colour, va="center_baseline")
    return canvas


@chart
def phases(cells: Sequence[tuple[str, dict[str, float | None]]]) -> Canvas | None:
    """Of (cell, phase → µs per request) the phases, one after the other; what a server does not tell is left out."""
    told = [(label, found) for label, found in cells if any(found.get(phase) for phase in PHASES)]
    if not told:
        return None
    sums = [sum(found.get(phase) or 0.0 for phase in PHASES) for _, found in told]
    canvas = rows([label for label, _ in told], {"sum": [units.microseconds(s) for s in sums]}, legend=True)
    named = dict(
        zip(PHASES, (colours()[name] for name in ("serialise", "wire", "server", "queue", "accent")), strict=True)
    )
    canvas.legend(
        ({"marker": "s", "color": colour, "markersize": 7, "markeredgewidth": 0}, phase)
        for phase, colour in named.items()
    )
    canvas.across(0, max(sums) * 1.02, units.microseconds, log=False)
    start = [0.0] * len(told)
    for phase, colour in named.items():
        lengths = [found.get(phase) or 0.0 for _, found in told]
        canvas.axes.barh(
            range(len(told)), lengths, left=start, height=0.62, color=colour, edgecolor=PAPER, linewidth=0.8
        )
        start = [a + b for a, b in zip(start, lengths, strict=True)]
    return canvas


@chart
def event(timeline: Sequence[dict[str, Any]], marks: Sequence[dict[str, Any]]) -> Canvas | None:
    """p50 and p99 (lines) and the slowest (thin) of the requests of each moment, what was done when, and below how many failed."""
    timed = [b for b in timeline if b["p50_ms"]]
    if len(timed) < 2:
        return None
    first, last = min(b["at_s"] for b in timeline), max(b["at_s"] for b in timeline)
    head = LINE * (1 + min(len(marks), 4)) + 6
    canvas = Canvas(head + 200, left=62, right=40, top=head, bottom=78)
    slowest = [b["max_ms"] or b["p99_ms"] for b in timed]
    canvas.up(*scales.log_range([b["p50_ms"] for b in timed] + slowest), units.milliseconds, log=True)
    canvas.axes.set_xlim(first, last)
    at = [b["at_s"] for b in timeline]
    lines: dict[str, tuple[str, dict[str, Any]]] = {
        "p50": ("p50_ms", {"color": ACCENT, "linewidth": 1.8}),
        "p99": ("p99_ms", {"color": INK, "linewidth": 1.2}),
        "slowest": ("max_ms", {"color": SOFT, "linewidth": 0.8, "linestyle": (0, (2, 2))}),
    }
    for key, style in lines.values():
        canvas.axes.plot(at, [b[key] or math.nan for b in timeline], **style)
    canvas.legend(
        (
            {"marker": "_", "markeredgecolor": style["color"], "markersize": 11, "markeredgewidth": style["linewidth"]},
            name,
        )
        for name, (_, style) in lines.items()
    )
    failed = canvas.plot(canvas.height - 70, canvas.height - 38)
    failed.set_xlim(first, last)
    most = max([b["failed"] for b in timeline], default=0)
    failed.set_ylim(0, max(most, 1))
    step = (last - first) / max(len(timeline) - 1, 1)
    failed.bar(at, [b["failed"] for b in timeline], width=step * 0.9, color=INK)
    canvas.across(first, last, "{:g} s".format, log=False, axes=failed)
    told = f"{sum(b['failed'] for b in timeline):,} failed"
    canvas.text(6, 54, "failed", colour=SOFT, size=TICK, va="center_baseline")
    canvas.text(WIDTH - canvas.right, 6, told, colour=SOFT, size=TICK, ha="right")
    for i, mark in enumerate(sorted(marks, key=lambda m: m["at_s"])):
        for axes in (canvas.axes, failed):
            axes.axvline(mark["at_s"], color=SOFT, linewidth=1)
        x, _ = canvas.place(mark["at_s"], 1)
        level = canvas.height - head + 9 + LINE * 0.8 * (min(len(marks), 4) - 1 - i % 4)
        right = x + width(mark["what"], TICK) + 4 < WIDTH
        canvas.text(
            x + (3 if right else -3),
            level,
            mark["what"],
            size=TICK,
            ha="left" if right else "right",
            va="center_baseline",
        )
        canvas.leader(x, canvas.height - head, x, level - 4)
    return canvas


def _at(canvas: Canvas, point: dict[str, Any]) -> tuple[float, float]:
    return canvas.place(point["rate"], point["p99_ms"])
