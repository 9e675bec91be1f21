"""Ranges, ticks, and where a label finds room."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Box = tuple[float, float, float, float]  # px: left, right, lower, upper


def log_range(values: Iterable[float], *, margin: float = 0.15) -> tuple[float, float]:
    """What a logarithmic axis shows: all values, ``margin`` decades on both sides, a decade at least."""
    exponents = [math.log10(v) for v in values if v > 0] or [0.0]
    low, high = min(exponents) - margin, max(exponents) + margin
    if high - low < 1:
        middle = (high + low) / 2
        low, high = middle - 0.5, middle + 0.5
    return 10**low, 10**high


def ticks(low: float, high: float, *, log: bool, at_most: int) -> list[float]:
    return _log_ticks(low, high, at_most) if log else _even_ticks(low, high, at_most)


def _log_ticks(low: float, high: float, at_most: int) -> list[float]:
    """Powers of ten; every second or third where there are many, halves of a decade where there is but one."""
    a, b = math.log10(low), math.log10(high)
    decades = list(range(math.ceil(a - 1e-9), math.floor(b + 1e-9) + 1))
    if len(decades) > 1:
        return [10.0**d for d in decades[:: math.ceil(len(decades) / max(at_most, 1))]]
    steps = [m * 10.0**d for d in range(math.floor(a), math.ceil(b) + 1) for m in (1, 2, 5)]
    return [s for s in steps if a <= math.log10(s) <= b]


def _even_ticks(low: float, high: float, at_most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / max(at_most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def free_place(x: float, y: float, room: tuple[float, float], within: Box, taken: list[Box]) -> tuple[float, float]:
    """Left end and middle height of a label of that width and height that covers nothing: right of its point, left of it,
    else ever farther above and below; where all is full, over others."""
    w, h = room
    candidates = [(x + 8, y), (x - 8 - w, y)]
    for step in range(1, 14):
        for level in (y + h * step, y - h * step):
            candidates += [(x - 4, level), (x + 4 - w, level), (x - w / 2, level)]

    def box(place: tuple[float, float]) -> Box:
        return place[0], place[0] + w, place[1] - h / 2, place[1] + h / 2

    def is_inside(b: Box) -> bool:
        return within[0] <= b[0] and b[1] <= within[1] and within[2] <= b[2] and b[3] <= within[3]

    def is_free(b: Box) -> bool:
        return all(b[0] >= t[1] or b[1] <= t[0] or b[2] >= t[3] or b[3] <= t[2] for t in taken)

    inside = [c for c in candidates if is_inside(box(c))]
    place = next((c for c in inside if is_free(box(c))), (inside or candidates)[0])
    taken.append(box(place))
    return place
