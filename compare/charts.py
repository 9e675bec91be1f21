"""The report's charts as SVG text. Colours, fonts and dark mode come from the page's CSS classes."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup, escape

from compare import units
from compare.terminal import worst

ERROR_DECADES = (-9, 0)  # the gauge's scale; an error of 0 stands at its left end
SMALLEST_ERROR = 1e-6  # of the size chart
LETTER = 7.0  # px, the width of a letter in a label


def gauge(row: dict[str, Any], *, width: int = 92) -> Markup:
    """A row's error on a logarithmic scale from 1e-9 to 1, with a tick at its tolerance."""
    error, tolerance = worst(row, "would_pass_at"), worst(row, "tolerance")
    if error is None:
        return Markup("")
    low, high = ERROR_DECADES

    def x(value: float) -> float:
        exponent = math.log10(value) if value > 0 else low
        return 3 + (width - 6) * (min(max(exponent, low), high) - low) / (high - low)

    tick = f'<line class="limit" x1="{x(tolerance):.1f}" x2="{x(tolerance):.1f}" y1="1" y2="9"/>' if tolerance else ""
    return Markup(
        f'<svg class="gauge" viewBox="0 0 {width} 10" width="{width}" height="10" aria-hidden="true">'
        f'<line class="scale" x1="3" x2="{width - 3}" y1="5" y2="5"/>{tick}'
        f'<circle class="dot" cx="{x(error):.1f}" cy="5" r="2.6"/></svg>'
    )


def latency(rows: list[dict[str, Any]]) -> Markup:
    """p50 (dot) to p95 (end of the line) of each target, one model, logarithmic in milliseconds."""
    timed = [(row["target"], row["latency"][0]) for row in rows if row["latency"] and row["latency"][0]["p50_ms"]]
    if not timed:
        return Markup("")
    longest = max(len(target) for target, _ in timed)
    left, right, line, top = max(118, round(longest * 6.3) + 14), 66, 19, 6  # 6.3: px, the width of a letter at 11.5
    width, height = 520, top + line * len(timed) + 24
    axis = Axis([v for _, t in timed for v in (t["p50_ms"], t["p95_ms"])], left, width - right)
    parts = [grid(axis, top, height - 20, units.milliseconds)]
    for i, (target, t) in enumerate(timed):
        y = top + line * i + line / 2
        a, b = axis(t["p50_ms"]), axis(t["p95_ms"])
        parts.append(
            f'<text class="label" x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(target)}</text>'
            f'<line class="range" x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}"/><circle class="dot" cx="{a:.1f}" cy="{y}" r="3.4"/>'
            f'<line class="range" x1="{b:.1f}" x2="{b:.1f}" y1="{y - 3}" y2="{y + 3}"/>'
            f'<text class="figure" x="{width - 2}" y="{y + 4:.1f}" text-anchor="end">{units.milliseconds(t["p50_ms"])}</text>'
        )
    return svg(width, height, parts, "p50 and p95 latency per target")


def size_against_error(rows: list[dict[str, Any]]) -> Markup:
    """Artefact size (across) and error (up) of one model, both logarithmic; targets in the same place share a label."""
    points: dict[tuple[float, float], list[str]] = {}
    for row in rows:
        error = worst(row, "would_pass_at")
        if row["artifact_bytes"] and error is not None:
            points.setdefault((row["artifact_bytes"], _rounded(error)), []).append(row["target"])
    if not points:
        return Markup("")
    left, right, top, width, height = 62, 20, 10, 520, 250
    across = Axis([size for size, _ in points], left, width - right, margin=0.25)
    up = Axis([error for _, error in points], height - 34, top, margin=0.3)
    parts = [grid(across, top, height - 34, units.size)]
    for value in up.ticks():
        y = up(value)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 8}" y="{y + 3.5:.1f}" text-anchor="end">{value:.0e}</text>'
        )
    places = {point: (across(point[0]), up(point[1])) for point in points}
    taken = [(x - 5, x + 5, y) for x, y in places.values()]
    for point, (px, py) in sorted(places.items()):
        label = _shared_label(points[point])
        x, y = free_place(px, py, len(label) * LETTER, width - right, taken)
        leader = (
            f'<line class="leader" x1="{px:.1f}" x2="{px:.1f}" y1="{py:.1f}" y2="{y + 5:.1f}"/>' if y < py - 4 else ""
        )
        parts.append(
            f'{leader}<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="3.6"/>'
            f'<text class="label" x="{x:.1f}" y="{y + 4:.1f}">{escape(label)}</text>'
        )
    return svg(width, height, parts, "artefact size against error")


class Axis:
    """A logarithmic axis from value to pixel, with ``margin`` decades on both sides."""

    def __init__(self, values: list[float], start: float, end: float, *, margin: float = 0.15) -> None:
        exponents = [math.log10(v) for v in values if v > 0] or [0.0]
        self.low, self.high = min(exponents) - margin, max(exponents) + margin
        if self.high - self.low < 1:
            middle = (self.high + self.low) / 2
            self.low, self.high = middle - 0.5, middle + 0.5
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (math.log10(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Powers of ten; every second one where there are many, halves of a decade where there is but one."""
        decades = list(range(math.ceil(self.low), math.floor(self.high) + 1))
        if len(decades) > 6:
            decades = decades[:: math.ceil(len(decades) / 6)]
        if len(decades) > 1:
            return [10.0**d for d in decades]
        steps = [m * 10.0**d for d in range(math.floor(self.low), math.ceil(self.high) + 1) for m in (1, 2, 5)]
        return [s for s in steps if self.low <= math.log10(s) <= self.high]


def grid(axis: Axis, top: float, bottom: float, text: Any) -> str:
    return "".join(
        f'<line class="grid" x1="{axis(v):.1f}" x2="{axis(v):.1f}" y1="{top}" y2="{bottom}"/>'
        f'<text class="tick" x="{axis(v):.1f}" y="{bottom + 15}" text-anchor="middle">{text(v)}</text>'
        for v in axis.ticks()
    )


def svg(width: int, height: int, parts: list[str], title: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    )


def _rounded(error: float) -> float:
    """To half a decade and at least 1e-6: below that, runtimes differ in how they round and nothing else."""
    return 10 ** (round(2 * math.log10(max(error, SMALLEST_ERROR))) / 2)


def _shared_label(targets: list[str]) -> str:
    """ "tfjs-cpu", "tfjs-wasm" → "tfjs-cpu|wasm"; at most three names."""
    families: dict[str, list[str]] = {}
    for target in targets:
        family, _, rest = target.partition("-")
        families.setdefault(family, []).append(rest)
    names = [f"{family}-{'|'.join(rest)}" if rest != [""] else family for family, rest in families.items()]
    return ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")


def free_place(
    x: float, y: float, length: float, edge: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float]:
    """Start and middle height of a label that covers nothing: right of its point, left of it, else ever higher above."""
    candidates = [(x + 8, y), (x - 8 - length, y)]
    for step in range(1, 12):
        candidates += [(x - 4, y - 14 * step), (x + 4 - length, y - 14 * step)]
    for start, middle in candidates:
        end = start + length
        if (
            start > 60
            and end < edge
            and all(abs(middle - ty) > 12 or start > tx2 or end < tx1 for tx1, tx2, ty in taken)
        ):
            break
    taken.append((start, end, middle))
    return start, middle
