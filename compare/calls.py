"""Which rows are asked how often and in which batches, and what came back. NumPy only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from export.evidence import Case

    Tensors = dict[str, NDArray]
    Predict = Callable[[Tensors], Tensors]

SMALL_BATCHES = (1, 2, 3)  # one row, an even and an odd number of rows
LADDER = (16, 128)  # sizes that estimate the time of all rows before all rows are asked
LEAST_ROWS = 4


@dataclass(frozen=True)
class Call:
    """One answer: rows ``start:start + batch`` of ``case``; ``repeat`` is 1, or 2 for the same request again."""

    case: Case
    start: int
    batch: int
    repeat: int
    outputs: Tensors

    def reference(self, name: str) -> NDArray:
        return self.case.outputs[name][self.start : self.start + self.batch]

    def __str__(self) -> str:
        again = ", asked again" if self.repeat > 1 else ""
        return f"{self.case.kind} rows {self.start}–{self.start + self.batch - 1} in a batch of {self.batch}{again}"


def exercise(
    predict: Predict, cases: Sequence[Case], *, fixed_batch: int | None = None, seconds: float = 4.0
) -> list[Call]:
    """Ask batches of 1, 2 and 3 rows, then every case with all its rows at once, twice.

    A target that would need more than ``seconds`` for that answers the leading rows of each case, at least
    four; the calls say how many. ``fixed_batch``: the model takes only this many rows, so every call has as many.
    """
    if fixed_batch:
        return _whole_batches(predict, cases, fixed_batch, seconds)
    first = cases[0]
    calls, per_row = [], 0.0
    for batch in (size for size in SMALL_BATCHES if size <= first.rows):
        start = time.perf_counter()
        calls.append(_ask(predict, first, 0, batch, 1))
        per_row = (time.perf_counter() - start) / batch
    share, estimates = _affordable_share(predict, cases, seconds, per_row)
    calls += estimates
    for case in cases:
        rows = min(case.rows, max(LEAST_ROWS, int(case.rows * share)))
        calls += [_ask(predict, case, 0, rows, repeat) for repeat in (1, 2)]
    return calls


def _whole_batches(predict: Predict, cases: Sequence[Case], batch: int, seconds: float) -> list[Call]:
    """Batch after batch, each twice, until the time is over; each case has its share of it."""
    calls: list[Call] = []
    for case in cases:
        end = time.perf_counter() + seconds / len(cases)
        for start in range(0, case.rows - batch + 1, batch):
            if start >= LEAST_ROWS and time.perf_counter() > end:
                break
            calls += [_ask(predict, case, start, batch, repeat) for repeat in (1, 2)]
    return calls


def _affordable_share(
    predict: Predict, cases: Sequence[Case], seconds: float, per_row: float
) -> tuple[float, list[Call]]:
    """The share of all rows that fits into ``seconds``, and the calls that were made to find out.

    ``per_row``: seconds of a row in a small batch, which say too much for a target that answers larger ones faster.
    """
    needed = 2 * sum(case.rows for case in cases)
    calls: list[Call] = []
    for batch in LADDER:
        if per_row * needed <= seconds or batch >= cases[0].rows or per_row * batch > seconds:
            break
        start = time.perf_counter()
        calls.append(_ask(predict, cases[0], 0, batch, 1))
        per_row = (time.perf_counter() - start) / batch
    return min(1.0, seconds / (per_row * needed)) if per_row else 1.0, calls


def _ask(predict: Predict, case: Case, start: int, batch: int, repeat: int) -> Call:
    inputs = {name: rows[start : start + batch] for name, rows in case.inputs.items()}
    return Call(case, start, batch, repeat, predict(inputs))
