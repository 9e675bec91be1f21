"""Figures for people: three significant digits, a unit, and an en dash where nothing was measured."""

from __future__ import annotations

from typing import Any

NOTHING = "–"


def milliseconds(value: float | None) -> str:
    """Of a time in ms: "82 µs", "1.24 ms", "2.1 s"."""
    if value is None:
        return NOTHING
    if value < 1:
        return f"{value * 1e3:.0f} µs"
    if value < 1000:
        return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
    return f"{value / 1e3:.1f} s"


def microseconds(value: float | None) -> str:
    """Of a time in µs, to three digits: "1.06 µs", "31.6 µs", "7.12 ms"."""
    if value is None:
        return NOTHING
    if value >= 1e3:
        return milliseconds(value / 1e3)
    return f"{value:.0f} µs" if value >= 100 else f"{value:.3g} µs"


def size(value: Any) -> str:
    """Of bytes: "7.1 kB", "13.9 MB" (powers of 1000)."""
    if value is None:
        return NOTHING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            number = value / factor
            return f"{number:.1f} {unit}" if number < 100 else f"{number:.0f} {unit}"
    return f"{value} B"


def error(value: float | None) -> str:
    """Of an error or a tolerance: "0", "3.1e-07"."""
    if value is None:
        return NOTHING
    return "0" if value == 0 else f"{value:.1e}"


def share(value: float | None) -> str:
    """Of a share: "99.2 %", "100 %" only for all of them."""
    if value is None:
        return NOTHING
    return "100 %" if value == 1 else f"{min(100 * value, 99.9):.1f} %"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def count(value: float | None) -> str:
    """Of a count or a rate: "12,480", "36.4"."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
