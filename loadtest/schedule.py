"""When requests are due: seconds from the schedule's start, made before it starts, the same for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtest.plan import with_rate_before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from loadtest.plan import Plan, Stage


def arrivals(plan: Plan, *, worker: int = 0, workers: int = 1) -> NDArray:
    """The moments, float64 [N], at which one of ``workers`` sends.

    Constant: every ``workers``-th of the whole schedule, beginning with its ``worker``-th. Poisson: a process of its own
    at the whole rate divided by ``workers``; such processes together are one at the whole rate. As many requests are sent
    as the rate says: a Poisson process whose count is known has its arrivals anywhere with equal chance.
    """
    expected = [0.0, *np.cumsum([stage.requests(before) for stage, before in with_rate_before(plan.stages)])]
    everyone = np.arange(round(expected[-1]), dtype=float)
    mine = everyone[worker::workers]
    if plan.arrival == "poisson":
        mine = np.sort(np.random.default_rng([plan.seed, worker]).uniform(0.0, expected[-1], len(mine)))
    return _moments(plan.stages, expected, mine)


def _moments(stages: Sequence[Stage], expected: Sequence[float], requests: NDArray) -> NDArray:
    """When so many requests have been due: the inverse of the rate's integral, stage by stage."""
    moments = np.empty_like(requests)
    start = 0.0
    for i, (stage, before) in enumerate(with_rate_before(stages)):
        here = (requests >= expected[i]) & (requests < expected[i + 1])
        moments[here] = start + _into(stage, before, requests[here] - expected[i])
        start += stage.seconds
    return moments


def _into(stage: Stage, before: float, requests: NDArray) -> NDArray:
    """Seconds into a stage until so many requests: t = n / r, or the root of r₀ t + (r₁ − r₀) t² / 2T = n."""
    if not stage.ramp or stage.rate == before:
        return requests / stage.rate
    slope = (stage.rate - before) / stage.seconds
    return (np.sqrt(np.maximum(before**2 + 2 * slope * requests, 0.0)) - before) / slope
