from __future__ import annotations

import numpy as np
import pytest

from loadtest.plan import Plan, Stage
from loadtest.schedule import arrivals
from models.errors import TargetError


def plan(*stages: Stage, arrival: str = "poisson", seed: int = 0) -> Plan:
    return Plan(target="serving-rest", model="mlp", loop="open", stages=stages, arrival=arrival, seed=seed)


def test_constant_arrivals_keep_one_distance():
    moments = arrivals(plan(Stage(seconds=2, rate=50), arrival="constant"))
    np.testing.assert_allclose(moments, np.arange(100) / 50, atol=1e-12)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_interleave_a_constant_schedule(workers):
    asked = plan(Stage(seconds=1, rate=40), Stage(seconds=1, rate=80), arrival="constant")
    shares = [arrivals(asked, worker=worker, workers=workers) for worker in range(workers)]
    np.testing.assert_allclose(np.sort(np.concatenate(shares)), arrivals(asked))
    assert all(np.all(np.diff(share) > 0) for share in shares)


def test_poisson_arrivals_have_exponential_gaps():
    """Mean 1/rate, standard deviation equal to the mean, and e⁻¹ of the gaps longer than it."""
    gaps = np.diff(arrivals(plan(Stage(seconds=200, rate=100))))
    assert gaps.mean() == pytest.approx(0.01, rel=0.01)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_poisson_arrivals_are_as_many_as_the_rate_says():
    shares = [arrivals(plan(Stage(seconds=3, rate=100)), worker=worker, workers=2) for worker in range(2)]
    assert [len(share) for share in shares] == [150, 150]
    together = np.sort(np.concatenate(shares))
    assert 0 <= together[0] < together[-1] < 3


def test_poisson_arrivals_repeat_with_the_seed_and_differ_between_workers():
    stage = Stage(seconds=1, rate=100)
    np.testing.assert_array_equal(arrivals(plan(stage)), arrivals(plan(stage)))
    assert not np.array_equal(arrivals(plan(stage)), arrivals(plan(stage, seed=1)))
    assert not np.array_equal(*(arrivals(plan(stage), worker=worker, workers=2) for worker in range(2)))


def test_stages_follow_each_other():
    moments = arrivals(
        plan(Stage(seconds=1, rate=10), Stage(seconds=2, rate=0), Stage(seconds=1, rate=30), arrival="constant")
    )
    counts, _ = np.histogram(moments, bins=[0, 1, 3, 4])
    assert counts.tolist() == [10, 0, 30]


@pytest.mark.parametrize("arrival", ["poisson", "constant"])
def test_ramp_grows_linearly_from_the_stage_before(arrival):
    """From 0 to 200/s in 4 s: a quarter of the 400 requests in the first half. Then down to 0 in 2 s: 200 requests."""
    asked = plan(Stage(seconds=4, rate=200, ramp=True), Stage(seconds=2, rate=0, ramp=True), arrival=arrival)
    counts, _ = np.histogram(arrivals(asked), bins=[0, 2, 4, 5, 6])
    np.testing.assert_allclose(counts, [100, 300, 150, 50], atol=2 if arrival == "constant" else 30)
    assert asked.rate == 100


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"target": "keras", "loop": "closed", "users": 1, "seconds": 1}, "no load can be put on 'keras'"),
        ({"loop": "half"}, "'open' or 'closed', not 'half'"),
        ({"loop": "open"}, "needs stages"),
        ({"loop": "open", "stages": (Stage(seconds=1, rate=1),), "arrival": "often"}, "not 'often'"),
        ({"loop": "open", "stages": (Stage(seconds=0, rate=1),)}, "lasts more than 0 s"),
        ({"loop": "open", "stages": (Stage(seconds=1, rate=float("inf")),)}, "a rate of 0 or more"),
        ({"loop": "open", "stages": (Stage(seconds=1, rate=1e9),)}, "are more than the generator keeps"),
        ({"loop": "closed", "users": 0, "seconds": 1}, "needs users and seconds, not 0 users"),
        ({"loop": "closed", "users": 1}, "for 0 s"),
    ],
)
def test_load_that_cannot_be_is_refused(load, message):
    with pytest.raises(TargetError, match=message):
        Plan(**{"target": "serving-rest", "model": "mlp", **load})
