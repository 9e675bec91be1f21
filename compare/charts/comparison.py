"""Charts of a comparison's rows: latency, the three kinds of start, cost, and size against quality. One model each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compare import units
from compare.charts import scales
from compare.charts.canvas import ACCENT, INK, LABEL, PAPER, SOFT, WIDTH, Canvas, chart, rows, width
from compare.terminal import worst

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DOT: dict[str, Any] = {"marker": "o", "color": ACCENT, "markersize": 6.5, "markeredgewidth": 0}
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 5.5,
    "markerfacecolor": PAPER,
    "markeredgecolor": ACCENT,
    "markeredgewidth": 1.3,
}
SQUARE: dict[str, Any] = {"marker": "s", "color": INK, "markersize": 5, "markeredgewidth": 0}
TARGETS_NAMED = 2  # of those in one place of a chart
PLACES_ALIKE = 12.0  # px: points nearer to each other than this share a label


@chart
def latency(timed: Sequence[tuple[str, dict[str, Any]]]) -> Canvas | None:
    """Of (target, times) p50 as a dot, p95 at the end of the thick line, p99 at the end of the thin one; ms."""
    timed = [(target, t) for target, t in timed if t.get("p50_ms")]
    if not timed:
        return None
    tails = [t.get("p99_ms") or t["p95_ms"] for _, t in timed]
    canvas = rows([target for target, _ in timed], {"p50": [units.milliseconds(t["p50_ms"]) for _, t in timed]})
    everything = [t["p50_ms"] for _, t in timed] + tails
    canvas.across(*scales.log_range(everything), units.milliseconds, log=True)
    for i, ((_, t), tail) in enumerate(zip(timed, tails, strict=True)):
        canvas.axes.plot([t["p50_ms"], tail], [i, i], color=ACCENT, linewidth=1, solid_capstyle="butt")
        canvas.axes.plot([t["p50_ms"], t["p95_ms"]], [i, i], color=ACCENT, linewidth=2.6, solid_capstyle="butt")
    places = range(len(timed))
    canvas.axes.plot(tails, places, linestyle="", marker="|", color=ACCENT, markersize=7, markeredgewidth=1.2)
    canvas.axes.plot([t["p50_ms"] for _, t in timed], places, linestyle="", **DOT)
    return canvas


@chart
def starts(timed: Sequence[tuple[str, dict[str, Any]]]) -> Canvas | None:
    """Of (target, times) the steady p50, the first answer and, where it was measured, the cold one; ms."""
    timed = [(target, t) for target, t in timed if t.get("first_ms") or t.get("cold_ms")]
    if not timed:
        return None
    kinds = {"cold": ("cold_ms", SQUARE), "first": ("first_ms", RING), "steady": ("p50_ms", DOT)}
    there = {kind: key for kind, (key, _) in kinds.items() if any(t.get(key) for _, t in timed)}
    told = {k: [units.milliseconds(t.get(key)) for _, t in timed] for k, key in there.items() if k != "steady"}
    canvas = rows([target for target, _ in timed], told, legend=True)
    canvas.legend((kinds[kind][1], kind) for kind in there)
    everything = [t[key] for _, t in timed for key in there.values() if t.get(key)]
    canvas.across(*scales.log_range(everything), units.milliseconds, log=True)
    for i, (_, t) in enumerate(timed):
        ends = [t[key] for key in there.values() if t.get(key)]
        canvas.axes.plot([min(ends), max(ends)], [i, i], color=SOFT, linewidth=0.7)
    for kind, key in there.items():
        points = [(t[key], i) for i, (_, t) in enumerate(timed) if t.get(key)]
        canvas.axes.plot(*zip(*points, strict=True), linestyle="", **kinds[kind][1])
    return canvas


@chart
def cost(spent: Sequence[tuple[str, float | None, int | None]]) -> Canvas | None:
    """Of (target, CPU ms per 1,000 inferences, bytes of memory) the CPU time, and both as figures."""
    known = [(target, cpu, memory) for target, cpu, memory in spent if cpu is not None and cpu > 0]
    if not known:
        return None
    told = {
        "CPU / 1,000": [units.milliseconds(cpu) for _, cpu, _ in known],
        "memory": [units.size(memory) for _, _, memory in known],
    }
    canvas = rows([target for target, _, _ in known], told)
    low, high = scales.log_range([cpu for _, cpu, _ in known])
    canvas.across(low, high, units.milliseconds, log=True)
    for i, (_, cpu, _) in enumerate(known):
        canvas.axes.plot([low, cpu], [i, i], color=ACCENT, linewidth=1)
    canvas.axes.plot([cpu for _, cpu, _ in known], range(len(known)), linestyle="", **DOT)
    return canvas


@chart
def size_against_metric(found: Sequence[dict[str, Any]]) -> Canvas | None:
    """Artefact size across; up, how much a target's task metric differs from the reference's on the same rows."""
    points = [
        (row["target"], row["artifact_bytes"], row["metric"]["value"] - row["metric"]["reference"])
        for row in found
        if row["artifact_bytes"] and row["metric"]
    ]
    if not points:
        return None
    differences = [d for _, _, d in points]
    reach = max(max(differences) - min(differences), 1e-4)
    canvas = Canvas(270, left=66, top=26)
    canvas.across(*scales.log_range([size for _, size, _ in points], margin=0.25), units.size, log=True)
    low, high = min([0.0, *differences]) - 0.35 * reach, max([0.0, *differences]) + 0.6 * reach
    canvas.up(low, high, lambda v: "same" if v == 0 else f"{v:+.3g}", log=False)
    canvas.axes.axhline(0, color=SOFT, linewidth=1)
    _scatter(canvas, points)
    return canvas


@chart
def size_against_error(found: Sequence[dict[str, Any]]) -> Canvas | None:
    """Artefact size across, error up, both logarithmic: for models without a task metric."""
    points = [
        (row["target"], row["artifact_bytes"], max(worst(row, "would_pass_at") or 0.0, 1e-6))
        for row in found
        if row["artifact_bytes"] and worst(row, "would_pass_at") is not None
    ]
    if not points:
        return None
    canvas = Canvas(250, left=66, top=14)
    canvas.across(*scales.log_range([size for _, size, _ in points], margin=0.25), units.size, log=True)
    canvas.up(*scales.log_range([error for _, _, error in points], margin=0.4), "{:.0e}".format, log=True)
    _scatter(canvas, points)
    return canvas


@chart
def size_against_time(found: Sequence[tuple[str, float, float]], text: Callable[[float], str]) -> Canvas | None:
    """Of (name, bytes, time) size across and time up, both logarithmic: down and left is better."""
    if len(found) < 2:
        return None
    canvas = Canvas(250, left=66, top=14)
    canvas.across(*scales.log_range([size for _, size, _ in found], margin=0.25), units.size, log=True)
    canvas.up(*scales.log_range([time for _, _, time in found], margin=0.3), text, log=True)
    _scatter(canvas, found)
    return canvas


def _scatter(canvas: Canvas, points: Sequence[tuple[str, float, float]]) -> None:
    """Dots of (name, x, y) with their names; those in one place share a label."""
    groups: list[tuple[tuple[float, float], list[str]]] = []
    for name, x, y in points:
        here = canvas.place(x, y)
        near = (g for g in groups if abs(g[0][0] - here[0]) < PLACES_ALIKE and abs(g[0][1] - here[1]) < PLACES_ALIKE)
        group = next(near, None)
        if group is None:
            groups.append((here, [name]))
        else:
            group[1].append(name)
    canvas.axes.plot([x for _, x, _ in points], [y for _, _, y in points], linestyle="", clip_on=False, **DOT)
    taken = [(x - 5, x + 5, y - 5, y + 5) for (x, y), _ in groups]
    within = (canvas.left + 2, WIDTH - 2.0, canvas.bottom + 2, canvas.height - 2)
    for (x, y), names in sorted(groups):
        label = shared_label(names)
        room = (width(label, LABEL), 13.0)
        at, level = scales.free_place(x, y, room, within, taken)
        if abs(level - y) > 6:
            end = min(max(x, at), at + room[0])
            canvas.leader(x, y, end, level + (5 if level < y else -5))
        canvas.text(at, level, label, va="center_baseline")


def shared_label(targets: Sequence[str]) -> str:
    """ "tfjs-cpu", "tfjs-wasm" → "tfjs-cpu|wasm"; at most two of them are named."""
    families: dict[str, list[str]] = {}
    for target in targets[:TARGETS_NAMED]:
        family, _, rest = target.partition("-")
        families.setdefault(family, []).append(rest)
    names = [f"{family}-{'|'.join(rest)}" if rest != [""] else family for family, rest in families.items()]
    more = len(targets) - TARGETS_NAMED
    return ", ".join(names) + (f" +{more}" if more > 0 else "")
