"""Noise or change: whether a figure differs between two runs, told by a test over repeats and never by eye.

Three things must hold for *changed*. The repeats of the two runs differ (Mann–Whitney U, Holm's correction over everything
that is compared). They differ after what happened to all rows alike, the machine's own state, is taken out. And the difference
is larger than what matters at all, and than what rows of these two runs differ by anyway: repeats within a run know nothing of
what differs from run to run (other work on the machine, memory layout), and a test over them alone finds changes between runs
of the same code; ``trial.py`` counts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SURE = 0.05  # of the corrected p-value
SMALLEST = 0.05  # 5 %: nobody chooses another runtime for less, and where the linker puts a function moves as much
SPREADS = (
    2.5  # robust standard deviations among the rows; one in a hundred of unchanged rows is beyond, with few rows more
)
NORMAL = 1.4826  # the standard deviation of normal values is this many times their median absolute deviation
TOGETHER = 3  # rows measured in turn with each other, from which on what they share is told from what one does
LEAST_ROWS = 3  # beyond one per shift that is taken out, for the spread among rows to mean something

NOISE, CHANGED, FEW_REPEATS, FEW_ROWS = "noise", "changed", "too few repeats to tell", "too few rows to tell"


@dataclass(frozen=True)
class Pair:
    """One figure of one row in both runs: a value per repeat, in any unit, all above 0. ``group``: measured in turn with it."""

    group: str
    row: str
    figure: str
    a: NDArray
    b: NDArray


@dataclass(frozen=True)
class Judged:
    """``ratio`` is B's median by A's; ``beside`` that ratio less what its group did; ``p`` is corrected."""

    pair: Pair
    ratio: float
    beside: float
    p: float | None
    says: str


@dataclass(frozen=True)
class Shift:
    """What a figure of all rows (or of a group's) did together: ``ratio`` 1.3 is 1.3 times as much in B."""

    figure: str
    group: str
    ratio: float
    rows: int
    alike: int  # rows that moved in this direction
    sure: bool  # for all groups together: a sign test says that this is no chance, and it is as large as matters


def judge(pairs: Sequence[Pair]) -> tuple[list[Judged], list[Shift]]:
    """Every pair's verdict, in their order, and what moved together."""
    moved = [math.log(float(np.median(pair.b)) / float(np.median(pair.a))) for pair in pairs]
    shifts: list[Shift] = []
    beside = list(moved)
    spread: dict[str, float | None] = {}
    for figure in dict.fromkeys(pair.figure for pair in pairs):
        places = [i for i, pair in enumerate(pairs) if pair.figure == figure]
        whole = float(np.median([moved[i] for i in places]))
        shifts.append(_shift(figure, "", whole, [moved[i] for i in places]))
        groups = {g: [i for i in places if pairs[i].group == g] for g in dict.fromkeys(pairs[i].group for i in places)}
        large = {group for group, members in groups.items() if len(members) >= TOGETHER}
        for group, members in groups.items():
            own = float(np.median([moved[i] for i in members])) if group in large else whole
            if group in large:
                shifts.append(_shift(figure, group, own, [moved[i] for i in members]))
            for i in members:
                beside[i] -= own
        spread[figure] = _spread([beside[i] for i in places], len(large) + (len(large) < len(groups)))
    raw = [_p_value(pair, beside[i] - moved[i]) for i, pair in enumerate(pairs)]
    corrected = holm(raw)
    tests = sum(p is not None for p in raw)
    judged = []
    for i, pair in enumerate(pairs):
        p, wide = corrected[i], spread[pair.figure]
        if p is None or smallest_p(len(pair.a), len(pair.b)) * tests > SURE:
            says, p = FEW_REPEATS, None
        elif wide is None:
            says = FEW_ROWS
        else:
            matters = abs(beside[i]) >= max(math.log1p(SMALLEST), SPREADS * wide)
            says = CHANGED if matters and p < SURE else NOISE
        judged.append(Judged(pair, math.exp(moved[i]), math.exp(beside[i]), p, says))
    return judged, shifts


def changed_by_the_test_alone(pairs: Sequence[Pair]) -> list[bool]:
    """What the test says of every pair without the rules: for ``trial.py``, which shows what these are for."""
    return [p is not None and p < SURE for p in holm([_p_value(pair, 0.0) for pair in pairs])]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values as Holm (1979) corrects them for their number; None stays None."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        corrected[i] = least
    return corrected


def smallest_p(n: int, m: int) -> float:
    """The least p-value that the two-sided test can give for so many repeats."""
    return min(1.0, 2 / math.comb(n + m, n)) if n and m else 1.0


def counts_differ(a: tuple[int, int], b: tuple[int, int]) -> float:
    """p-value of (failed, all) in two runs being of the same share: Fisher's exact test."""
    table = [[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]
    return float(stats.fisher_exact(table).pvalue)


def _p_value(pair: Pair, correction: float) -> float | None:
    """Mann–Whitney U of A and of B with the shift taken out; exact where no two values are the same."""
    if min(len(pair.a), len(pair.b)) < 2:
        return None
    a, b = np.log(pair.a), np.log(pair.b) + correction
    together = np.concatenate([a, b])
    if np.ptp(together) == 0:
        return 1.0
    method = "exact" if len(np.unique(together)) == len(together) else "asymptotic"
    return float(stats.mannwhitneyu(a, b, method=method).pvalue)


def _shift(figure: str, group: str, middle: float, moved: Sequence[float]) -> Shift:
    alike = sum(m * middle > 0 for m in moved)
    sure = abs(middle) >= math.log1p(SMALLEST) and stats.binomtest(alike, len(moved)).pvalue < SURE
    return Shift(figure, group, math.exp(middle), len(moved), alike, bool(sure))


def _spread(beside: Sequence[float], shifts: int) -> float | None:
    """Robust standard deviation of what rows did besides their shift; a median row of each shift is 0 and says nothing."""
    rest = sorted(map(abs, beside))[shifts:]
    return NORMAL * float(np.median(rest)) if len(rest) >= LEAST_ROWS else None
