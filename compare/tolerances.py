"""The limits of ``tolerances.toml`` as objects."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one precision must keep to. ``tolerance`` is None where the decision is judged instead of the values."""

    precision: str
    tolerance: float | None
    reason: str
    repeat: float
    clear_margin: float
    clear_agreement: float
    metric_drop: float
    error_ratio: float


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("tolerances.toml").read_text())


def limits_for(precision: str) -> Limits:
    """Limits of a precision: "float32", "int8", or another variant of ``lite``. Raises KeyError for one without an entry."""
    table = _table()
    entry = table[precision]
    return Limits(
        precision=precision,
        tolerance=entry["tolerance"] if entry["rule"] == "tolerance" else None,
        reason=entry["reason"],
        repeat=table["repeat"]["tolerance"],
        **table["decision"],
    )
