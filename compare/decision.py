"""From an answer to a decision, and how often two answers decide alike. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.spec import Decision


@dataclass(frozen=True)
class Agreement:
    """Shares of equal decisions: over all samples, and over those on which the reference is clear. None without any."""

    agreement: float | None
    clear_agreement: float | None
    n: int
    clear_n: int


def decide(answer: NDArray, decision: Decision) -> NDArray:
    """Class indices, int64 [N], of an answer [N, classes] ("argmax") or [N] or [N, 1] ("threshold")."""
    if decision.kind == "argmax":
        return answer.reshape(len(answer), -1).argmax(axis=1)
    return (_column(answer) >= decision.threshold).astype(np.int64)


def margin(answer: NDArray, decision: Decision) -> NDArray:
    """Distance between the two best classes, float64 [N]; for a threshold t, 2 · |p − t|, the same at t = 0.5."""
    if decision.kind == "threshold":
        return 2 * np.abs(_column(answer).astype(np.float64) - decision.threshold)
    scores = np.sort(answer.reshape(len(answer), -1).astype(np.float64), axis=1)
    return scores[:, -1] - scores[:, -2] if scores.shape[1] > 1 else np.full(len(answer), np.inf)


def agreement(value: NDArray, reference: NDArray, decision: Decision, *, clear_margin: float) -> Agreement | None:
    """How often ``value`` decides as ``reference`` does; None for a regression, which has no classes."""
    if decision.kind == "value":
        return None
    same = decide(value, decision) == decide(reference, decision)
    clear = margin(reference, decision) >= clear_margin
    return Agreement(
        agreement=float(same.mean()) if same.size else None,
        clear_agreement=float(same[clear].mean()) if clear.any() else None,
        n=int(same.size),
        clear_n=int(clear.sum()),
    )


def _column(answer: NDArray) -> NDArray:
    return answer.reshape(len(answer), -1)[:, 0]
