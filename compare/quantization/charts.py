"""The quantization report's own charts as SVG text; axes and dress are those of ``compare/charts.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from compare import charts
from compare.quantization.recommend import invoke_us
from compare.quantization.tables import by_source, short, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 520
LEFT, RIGHT, TOP = 62, 20, 12
NO_ERROR = 1e-5  # standard deviations: where a tensor without any error stands on the logarithmic axis


def latency(model: dict[str, Any]) -> Markup:
    """predict() of every variant and of TensorFlow, in the form of the comparison's chart."""
    named = [(row["variant"], t) for row in model["variants"] for t in row["latency"] if t["call"] == "predict"]
    named += [(f"TF, {'all cores' if t['threads'] is None else '1 thread'}", t) for t in model["tensorflow"]]
    return charts.latency(
        [
            {"target": name, "latency": [{"p50_ms": t["p50_us"] / 1e3, "p95_ms": t["p95_us"] / 1e3}]}
            for name, t in named
            if t["p50_us"]
        ]
    )


def size_against_time(model: dict[str, Any]) -> Markup:
    """File size across, one invoke() up: down and left is better."""
    points = [(r["bytes"], invoke_us(r), r["variant"]) for r in model["variants"] if r["bytes"]]
    timed = [(float(size), time, name) for size, time, name in points if time is not None]
    if len(timed) < 2:
        return Markup("")
    height = 250
    across = charts.Axis([size for size, _, _ in timed], LEFT, WIDTH - RIGHT, margin=0.25)
    up = charts.Axis([time for _, time, _ in timed], height - 34, TOP, margin=0.2)
    parts = [charts.grid(across, TOP, height - 34, charts.units.size), _levels(up, charts.units.microseconds)]
    taken = [(across(size) - 5, across(size) + 5, up(time)) for size, time, _ in timed]
    for size, time, name in sorted(timed):
        x, y = across(size), up(time)
        at, level = charts.free_place(x, y, len(name) * charts.LETTER, WIDTH - RIGHT, taken)
        leader = f'<line class="leader" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{level + 5:.1f}"/>'
        parts.append(
            f'{leader if level < y - 4 else ""}<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>'
            f'<text class="label" x="{at:.1f}" y="{level + 4:.1f}">{escape(name)}</text>'
        )
    return charts.svg(WIDTH, height, parts, "file size against the time of one invocation")


def calibration(points: Sequence[dict[str, Any]]) -> Markup:
    """Error in steps of the output (up) over the rows that int8 was calibrated with (across), both logarithmic.

    Rows of another source than the curve's stand beside it, with their name.
    """
    measured = [point for point in points if point["error_in_scales"]]
    right, wrong = by_source(measured) if measured else ([], [])
    if len(right) < 2:
        return Markup("")
    height = 190
    across = charts.Axis([point["rows"] for point in measured], LEFT, WIDTH - RIGHT)
    up = charts.Axis([point["error_in_scales"] for point in measured], height - 34, TOP + 8)
    parts = [charts.grid(across, TOP, height - 34, lambda v: f"{v:g}"), _levels(up, lambda v: f"{v:g}")]
    parts.append(_line([(across(point["rows"]), up(point["error_in_scales"])) for point in right]))
    for point in measured:
        x, y = across(point["rows"]), up(point["error_in_scales"])
        beside = point in wrong
        label = f"{point['source']}: {steps(point['error_in_scales'])}" if beside else steps(point["error_in_scales"])
        at, anchor = (x - 9, "end") if beside else (x, "middle")
        parts.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>'
            f'<text class="label" x="{at:.1f}" y="{y + 4 if beside else y - 9:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        )
    return charts.svg(WIDTH, height, parts, "error over the number of calibration rows")


def along_the_graph(found: dict[str, Any]) -> Markup:
    """The error of every tensor in the order of execution, the first jump marked."""
    tensors = found["tensors"]
    if len(tensors) < 2:
        return Markup("")
    height = 190
    up = charts.Axis([max(t["error"], NO_ERROR) for t in tensors], height - 34, TOP)

    def place(i: int) -> float:
        return LEFT + 6 + (WIDTH - RIGHT - LEFT - 12) * i / (len(tensors) - 1)

    points = [(place(i), up(max(t["error"], NO_ERROR))) for i, t in enumerate(tensors)]
    parts = [_levels(up, lambda v: f"{100 * v:g} %"), _line(points)]
    if len(tensors) <= 40:
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in points]
    for rank, number in enumerate(found["ranking"][:3], 1):
        x, y = points[number]
        parts.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
            f'<text class="label" x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{rank}</text>'
        )
    if (jump := found["first_jump"]) is not None:
        x = points[jump][0]
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 34}"/>')
    first, last = short(tensors[0]), short(tensors[-1])
    parts.append(
        f'<text class="tick" x="{LEFT}" y="{height - 18}">{escape(first)}</text>'
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{height - 4}" text-anchor="end">{escape(last)}</text>'
    )
    return charts.svg(WIDTH, height, parts, "error of each tensor in the order of execution")


def _levels(axis: charts.Axis, text: Any) -> str:
    """Horizontal grid lines with their values."""
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{axis(v):.1f}" y2="{axis(v):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{axis(v) + 3.5:.1f}" text-anchor="end">{text(v)}</text>'
        for v in axis.ticks()
    )


def _line(points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="range" fill="none" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'
