"""Which variant to take, and why. The rules are ``PURPOSES``; everything else here only words the reason.

Every rule chooses among the files that pass the verdict: a file that is not the same model any more is no bargain.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from compare import units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]

SLOWER = 1.25  # times float32's invoke(): more than what a run's noise moves, less than what a user notices
SAME_SIZE = 1.05  # sizes within 5 % are alike; then the faster one is taken
SAME_TIME = 1.1  # so are times within a run's noise; then the one that is nearer to the Keras model


@dataclass(frozen=True)
class Purpose:
    """``fits``: whether a row may be chosen at all; ``size``: what must be small, None where speed decides."""

    name: str
    rule: str
    fits: Callable[[Row, Row | None], bool]
    size: str | None


def timing(row: Row, call: str, delegate: str = "XNNPACK", threads: int = 1) -> dict[str, Any] | None:
    """What was measured of one way to call a variant, None where it was not."""
    wanted = (call, delegate, threads)
    return next((t for t in row["latency"] if (t["call"], t["delegate"], t["threads"]) == wanted), None)


def invoke_us(row: Row, *, delegate: str = "XNNPACK", threads: int = 1, call: str = "invoke") -> float | None:
    """The median of one way to call a variant, µs."""
    found = timing(row, call, delegate, threads)
    return found["p50_us"] if found else None


def times_as_long(own: dict[str, Any] | None, other: dict[str, Any] | None) -> float | None:
    """How many times as long one call takes as another: the median of the rounds' own ratios.

    Within a round the two were timed one soon after the other; over all rounds, a busy neighbour would move one median
    and not the other.
    """
    if own is None or other is None or not own["rounds_us"] or not other["rounds_us"]:
        return None
    return median(a / b for a, b in zip(own["rounds_us"], other["rounds_us"], strict=True))


def slowdown(row: Row, float32: Row | None) -> float | None:
    """invoke() of a variant against float32's."""
    return times_as_long(timing(row, "invoke"), timing(float32, "invoke") if float32 else None)


def is_full_integer(row: Row) -> bool:
    return not row["error"] and bool(row["ops"]) and not row["float_islands"]


def _fast_enough(row: Row, float32: Row | None) -> bool:
    slower = slowdown(row, float32)
    return slower is None or slower <= SLOWER


PURPOSES = (
    Purpose(
        "device",
        f"the smallest file whose invoke() takes at most {SLOWER} × float32's; a CPU such as a Raspberry Pi's",
        lambda row, float32: not row["any_batch"] and _fast_enough(row, float32),
        "bytes",
    ),
    Purpose(
        "integer-only",
        "the smallest file without a float operator, however fast here; an Edge TPU, a microcontroller",
        lambda row, _: not row["any_batch"] and is_full_integer(row),
        "bytes",
    ),
    Purpose(
        "phone",
        "the smallest file that keeps the values within a tolerance and not only the decisions; a GPU delegate, LiteRT.js",
        lambda row, _: not row["any_batch"] and row["judged_by"] == "tolerance",
        "bytes",
    ),
    Purpose(
        "download",
        f"the fewest bytes over the air (gzip) whose invoke() takes at most {SLOWER} × float32's",
        lambda row, float32: not row["any_batch"] and _fast_enough(row, float32),
        "gzip_bytes",
    ),
    Purpose(
        "server",
        "the fastest file that takes any number of rows at once",
        lambda row, _: row["any_batch"],
        None,
    ),
)


def recommend(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """``[{"purpose", "rule", "variant", "reason"}]`` for one model; variant None, and why, where no file fits."""
    float32 = next((row for row in rows if row["variant"] == "float32" and not row["error"]), None)
    return [
        {"purpose": p.name, "rule": p.rule, **_choose(p, [r for r in rows if not r["error"]], float32)}
        for p in PURPOSES
    ]


def _choose(purpose: Purpose, rows: Sequence[Row], float32: Row | None) -> dict[str, Any]:
    fitting = [row for row in rows if purpose.fits(row, float32)]
    passing = [row for row in fitting if _passes(row)]
    if not passing:
        told = f"{len(fitting)} fit, none passes the verdict" if fitting else "no file fits"
        return {"variant": None, "reason": told}
    if purpose.size is not None:
        least = min(row[purpose.size] for row in passing)
        passing = [row for row in passing if row[purpose.size] <= SAME_SIZE * least]
    fastest = min(passing, key=_speed)
    best = min((row for row in passing if (slowdown(row, fastest) or 1.0) <= SAME_TIME), key=_distance)
    return {"variant": best["variant"], "reason": _reason(purpose, best, float32, rows)}


def _passes(row: Row) -> bool:
    """A model without labels has no verdict on decisions; that it answers at all must do."""
    return bool(row["quality"]) and row["quality"]["verdict"] in ("pass", "info")


def _speed(row: Row) -> float:
    time = invoke_us(row)
    return float("inf") if time is None else time


def _distance(row: Row) -> tuple[float, float]:
    """From the Keras model: the share of clear decisions that differ, and then the largest error."""
    found = row["quality"]
    decided = found["agreement"]["clear_agreement"] if found["agreement"] else None
    return 0.0 if decided is None else 1 - decided, found["max_abs"] or 0.0


def _reason(purpose: Purpose, best: Row, float32: Row | None, rows: Sequence[Row]) -> str:
    if purpose.size is None:
        return f"{_size_told(purpose, best, None)}; {_speed_told(best, float32)}"
    parts = [_size_told(purpose, best, float32), _speed_told(best, float32), _quality_told(best)]
    parts += [_passed_over(purpose, best, float32, rows)]
    return "; ".join(part for part in parts if part)


def _size_told(purpose: Purpose, best: Row, float32: Row | None) -> str:
    field = purpose.size or "bytes"
    told = units.size(best[field]) + (" compressed" if field == "gzip_bytes" else "")
    if float32 is None or float32 is best:
        return told
    return f"{told} instead of {units.size(float32[field])} ({best[field] / float32[field]:.2f} ×)"


def _speed_told(best: Row, float32: Row | None) -> str:
    own, slower = invoke_us(best), slowdown(best, float32)
    if own is None:
        return ""
    if slower is None or float32 is best:
        return f"invoke() {units.microseconds(own)}"
    return f"invoke() {units.microseconds(own)} ({slower:.2f} × float32's)"


def _quality_told(best: Row) -> str:
    found = best["quality"]
    parts = []
    if metric := found["metric"]:
        parts.append(f"{metric['name']} {units.number(metric['value'])} (Keras {units.number(metric['reference'])})")
    if (decided := found["agreement"]) and decided["clear_agreement"] is not None:
        parts.append(f"decides like Keras on {units.share(decided['clear_agreement'])} of clear samples")
    if not parts and found["error_in_scales"] is not None:
        parts.append(f"off by at most {found['error_in_scales']:.2g} steps of its output")
    return ", ".join(parts)


def _passed_over(purpose: Purpose, best: Row, float32: Row | None, rows: Sequence[Row]) -> str:
    """Why smaller ones were not taken: what someone who reads the table asks first."""
    assert purpose.size
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["any_batch"] or row is best or row[purpose.size] * SAME_SIZE >= best[purpose.size]:
            continue
        if not _passes(row):
            reasons.setdefault("does not pass", []).append(row["variant"])
        elif not purpose.fits(row, float32):
            reasons.setdefault(_unfit(purpose, row, float32), []).append(row["variant"])
    return "; ".join(f"smaller, but {why}: {', '.join(names)}" for why, names in reasons.items())


def _unfit(purpose: Purpose, row: Row, float32: Row | None) -> str:
    if not _fast_enough(row, float32) and purpose.name in ("device", "download"):
        return f"more than {SLOWER} × as slow"
    return "has float operators" if purpose.name == "integer-only" else "keeps the decisions only"
