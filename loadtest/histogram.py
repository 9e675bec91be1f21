"""HDR histograms of microseconds: recorded in a worker, sent as text, merged, read. Three digits are kept.

The format is HdrHistogram's V2, so that other tools can read what a report keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

# From 1 µs to ten minutes: longer than any request may take, its patience and the wait for a connection included.
_LOWEST, _HIGHEST, _DIGITS = 1, 600_000_000, 3
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


def histogram(seconds: Iterable[float] | NDArray = ()) -> HdrHistogram:
    made = HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)
    microseconds = np.clip(np.rint(np.asarray(seconds, float) * 1e6), _LOWEST, _HIGHEST).astype(np.int64)
    for value, count in zip(*np.unique(microseconds, return_counts=True), strict=True):
        made.record_value(int(value), int(count))
    return made


def encoded(one: HdrHistogram) -> str:
    return one.encode().decode()


def merged(texts: Iterable[str]) -> HdrHistogram:
    """One histogram of all samples that ``encoded`` ones hold."""
    whole = histogram()
    for text in texts:
        whole.decode_and_add(text)
    return whole


def percentiles(one: HdrHistogram, which: Sequence[float]) -> list[float | None]:
    """Milliseconds, the same as HdrHistogram's own (nearest rank, upper end of the bucket), which walks in Python; None when empty."""
    if not one.get_total_count():
        return [None] * len(which)
    counted = np.cumsum(np.ctypeslib.as_array(one.counts))
    found = []
    for percentile in which:
        index = int(np.searchsorted(counted, one.get_target_count_at_percentile(percentile)))
        found.append(one.get_highest_equivalent_value(one.get_value_from_index(index)) / 1e3)
    return found


def latency_ms(one: HdrHistogram) -> dict[str, float | None]:
    """Percentiles, max and mean in milliseconds; None without a sample."""
    figures: dict[str, float | None] = dict(zip(PERCENTILES, percentiles(one, list(PERCENTILES.values())), strict=True))
    some = one.get_total_count() > 0
    figures["max"] = one.get_max_value() / 1e3 if some else None
    figures["mean"] = one.get_mean_value() / 1e3 if some else None
    return figures
