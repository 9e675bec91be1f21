"""From an older version to a newer one on the same labelled rows: the task metric of each, and how far they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compare.decision import agreement
from compare.tolerances import limits_for
from compare.verdict import metric_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import ModelSpec


@dataclass(frozen=True)
class VersionShift:
    """An older version beside a newer one on the same labelled rows."""

    metric_name: str
    old_metric: float | None
    new_metric: float | None
    agreement: float | None  # None for a regression
    mean_shift: float  # mean |new − old| of the deciding output
    n: int


def version_shift(before: NDArray, after: NDArray, labels: NDArray, spec: ModelSpec) -> VersionShift:
    """``before`` and ``after`` are the deciding output of both versions [n, …]. Needs the spec's decision and metric."""
    assert spec.decision is not None
    assert spec.metric is not None
    same = agreement(before, after, spec.decision, clear_margin=limits_for("float32").clear_margin)
    return VersionShift(
        metric_name=spec.metric.name,
        old_metric=metric_value(spec, labels, before),
        new_metric=metric_value(spec, labels, after),
        agreement=same.agreement if same else None,
        mean_shift=float(np.abs(after.astype(np.float64) - before).mean()),
        n=len(labels),
    )
