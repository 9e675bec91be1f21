"""The highest rate at which p99 stays under a bound, and the curve of latency over throughput on the way to it.

    python -m loadtest.search --target serving-rest --model mlp --p99 20

The rate is doubled until a bound is broken, then halved in between; each rate is asked in open loop several times and
its median run counts, and a rate is given up only when it was not held twice, so that one busy moment decides nothing.
A rate is held when p99 is under the bound, nothing failed, and the generator kept its schedule: where it did not, it is
the limit, and the answer says so.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from compare import units
from deploy.columns import columns
from export.bundle import find_exports
from loadtest.generator import Generator, Plan, Stage
from loadtest.histogram import percentiles
from loadtest.results import write_curves
from loadtest.services import SERVICES, find_service
from loadtest.watched import Watched
from models.errors import ModelError, TargetError, interruptible, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loadtest.generator import Outcome

START_RATE = 50.0  # per second: low load on every target
HIGHEST_RATE = 100_000.0
FINE = 0.07  # the rates that are held and not held lie this close together at the end, as a share
REPEATS = 3
SECONDS = 2.0  # of each run, more at low rates: a p99 needs requests
LEAST_REQUESTS = 200
BEYOND = 1.5  # the curve goes on to this multiple of the highest rate, past its knee
LEAST_POINTS = 5  # of a curve, also where not even the first rate is held
P99_MS = 20.0


@dataclass(frozen=True)
class Point:
    """One rate: the run with the median p99. ``failed`` counts all runs'; ``invalid`` when most runs were."""

    rate_asked: float
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    failed: int
    invalid: str | None
    error: str = field(default="", compare=False)  # the first failure, in words

    def broken(self, bound_ms: float) -> str:
        """Why this rate is not held, empty when it is."""
        if self.invalid:
            return f"at {self.rate_asked:.0f}/s {self.invalid}"
        if self.failed:
            return f"at {self.rate_asked:.0f}/s {self.failed} requests failed: {self.error}"
        if self.p99_ms is None or self.p99_ms > bound_ms:
            return f"at {self.rate_asked:.0f}/s p99 is {'unknown' if self.p99_ms is None else f'{self.p99_ms:.1f} ms'}"
        return ""


@dataclass
class Curve:
    """``highest`` is None when not even the lowest rate is held; ``reason`` says what ends it."""

    model: str
    target: str
    bound_ms: float
    points: list[Point]
    highest: Point | None
    reason: str

    @property
    def at_least(self) -> bool:
        """Whether the server may hold more than ``highest``: the generator, or the search's own end, was the limit."""
        if self.highest is None:
            return False
        above = next((point for point in self.points if point.rate_asked > self.highest.rate_asked), None)
        return above is None or above.invalid is not None

    def to_json(self) -> dict[str, Any]:
        found = self.highest
        highest = found and {"rate": found.rate_asked, "p99_ms": found.p99_ms, "at_least": self.at_least}
        points = [{k: v for k, v in asdict(point).items() if k != "error"} for point in self.points]
        return {
            "model": self.model,
            "target": self.target,
            "bound_ms": self.bound_ms,
            "percentile": 99,
            "points": points,
            "highest": highest,
            "reason": self.reason,
        }


def search(model: str, target: str, *, bound_ms: float, measure: Callable[[float], Point]) -> Curve:
    """Double, then bisect; ``measure`` runs one rate. The points are in the order of their rates."""
    points: dict[float, Point] = {}

    def held(rate: float) -> bool:
        points[rate] = measure(rate)
        if points[rate].broken(bound_ms):  # or was it only a busy moment?
            points[rate] = measure(rate)
        return not points[rate].broken(bound_ms)

    low, high = 0.0, START_RATE
    while True:
        while held(high):
            low, high = high, high * 2
            if high > HIGHEST_RATE:
                return _curve(model, target, bound_ms, points, low, f"held up to {low:.0f}/s, where the search ends")
        past = high
        while low and high - low > FINE * high:
            middle = (low + high) / 2
            low, high = (middle, high) if held(middle) else (low, middle)
        if not low and len(points) < LEAST_POINTS:
            high = 2 * high
        elif low and past < BEYOND * low and held(BEYOND * low):  # it was a busy moment that was not held
            low, high = BEYOND * low, 2 * BEYOND * low
        else:
            reason = points[high if low else START_RATE].broken(bound_ms)
            return _curve(model, target, bound_ms, points, low, reason)


def _curve(model: str, target: str, bound_ms: float, points: dict[float, Point], highest: float, reason: str) -> Curve:
    return Curve(model, target, bound_ms, [points[rate] for rate in sorted(points)], points.get(highest), reason)


def measured(
    generator: Generator,
    model: str,
    target: str,
    rate: float,
    *,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    address: str | None = None,
) -> Point:
    """One rate, some times; each run has arrivals of its own."""
    stages = (Stage(seconds=max(seconds, LEAST_REQUESTS / rate), rate=rate),)
    plans = [
        Plan(target=target, model=model, loop="open", stages=stages, seed=repeat, address=address)
        for repeat in range(repeats)
    ]
    return median_point(rate, [generator.run(plan) for plan in plans])


def median_point(rate: float, outcomes: list[Outcome]) -> Point:
    """The run whose p99 is the median; one without an answer counts as endless."""
    figures = [percentiles(outcome.latency, (50, 99)) for outcome in outcomes]
    order = sorted(figures, key=lambda p50_p99: math.inf if p50_p99[1] is None else p50_p99[1])
    p50, p99 = order[len(order) // 2]
    reasons = [outcome.invalid for outcome in outcomes if outcome.invalid]
    errors = [error["message"] for outcome in outcomes for error in outcome.errors]
    return Point(
        rate_asked=rate,
        rate=statistics.median(outcome.rate for outcome in outcomes),
        p50_ms=p50,
        p99_ms=p99,
        failed=sum(outcome.failed for outcome in outcomes),
        invalid=reasons[0] if len(reasons) * 2 > len(outcomes) else None,
        error=errors[0] if errors else "",
    )


def search_all(
    load: Generator, models: Sequence[str], targets: Sequence[str], *, bound_ms: float, seconds: float
) -> Iterator[Curve]:
    """Every model on every target of the running deployment; the generator is started for them."""
    with load as generator:
        for target in targets:
            for model in models:
                print(f"{model} on {target}, p99 under {bound_ms:g} ms:", flush=True)
                measured(generator, model, target, START_RATE, repeats=1)  # the first run is slower

                def measure(rate: float, model: str = model, target: str = target) -> Point:
                    point = measured(generator, model, target, rate, seconds=seconds)
                    verdict = "not held" if point.broken(bound_ms) else "held"
                    p50, p99 = units.milliseconds(point.p50_ms), units.milliseconds(point.p99_ms)
                    print(f"  {rate:8.0f}/s  p50 {p50:>8}  p99 {p99:>8}  {verdict}", flush=True)
                    return point

                curve = search(model, target, bound_ms=bound_ms, measure=measure)
                print(f"  held: {_found(curve)}; {curve.reason}", flush=True)
                yield curve


def _found(curve: Curve) -> str:
    if curve.highest is None:
        return "none"
    return f"{'at least ' if curve.at_least else ''}{curve.highest.rate_asked:.0f}/s"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.search", description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="", help="comma-separated; default: all")
    parser.add_argument("--model", default="", help="comma-separated; default: all")
    parser.add_argument("--p99", default=f"{P99_MS:g}", help=f"the bound, ms; default {P99_MS:g}")
    parser.add_argument("--seconds", default=f"{SECONDS:g}", help=f"of each run; default {SECONDS:g}")
    parser.add_argument("--workers", type=int, default=1, help="processes of the generator; default 1")
    options = parser.parse_args(argv)
    bound, seconds = positive("--p99", options.p99, "ms"), positive("--seconds", options.seconds, "s")
    load = Generator(workers=options.workers)
    targets = [name.strip() for name in options.target.split(",") if name.strip()] or list(SERVICES)
    models = [name.strip() for name in options.model.split(",") if name.strip()]
    for name in targets:
        find_service(name)
    exports = find_exports(models=models or None)
    if not exports:
        raise ModelError("there is no export to ask; run `make deploy-all` to train and export the models")
    newest = {export.model: export for export in exports}
    for target, model in itertools.product(targets, newest):
        Watched(target, newest[model])
    curves: list[Curve] = []
    try:
        for curve in search_all(load, list(newest), targets, bound_ms=bound, seconds=seconds):
            curves.append(curve)
    finally:  # what was found before an interrupt is kept
        if curves:
            path = write_curves([curve.to_json() for curve in curves])
    rows = [("model", "target", f"highest rate, p99 ≤ {bound:g} ms", "what ends it")]
    rows += [(curve.model, curve.target, _found(curve), curve.reason) for curve in curves]
    print(f"\n{columns(rows)}\n\nThe curves are in {path}")
    return 0


def positive(option: str, text: str, unit: str) -> float:
    """Raises TargetError for what is no number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise TargetError(f"{option}={text} is of no use; give a number of {unit} above 0, for example {option}=20")
    return value


if __name__ == "__main__":
    interruptible()
    run_cli(main)
