"""The search finds the highest rate that is held, and says what ends it; on made-up servers, and one run on a real one."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from loadtest import results
from loadtest.search import BEYOND, FINE, LEAST_POINTS, Curve, Point, main, measured, positive, search
from models.artifacts import artifacts_root
from models.errors import TargetError
from serving.local import local_server
from tests.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loadtest.generator import Generator

BOUND_MS = 20.0
HOST = results.environment.host()


def point(rate: float, p99_ms: float | None, *, failed: int = 0, invalid: str | None = None) -> Point:
    return Point(rate, rate, p99_ms and p99_ms / 2, p99_ms, failed, invalid, "HTTP 503" if failed else "")


def found(measure: Callable[[float], Point]) -> Curve:
    curve = search("mlp", "serving-rest", bound_ms=BOUND_MS, measure=measure)
    rates = [one.rate_asked for one in curve.points]
    assert rates == sorted(set(rates))
    assert len(rates) >= LEAST_POINTS
    return curve


@pytest.mark.parametrize("holds", [50, 99, 130, 730, 1599, 1600, 20_000])
def test_highest_rate_is_found_and_the_curve_goes_past_it(holds: float) -> None:
    curve = found(lambda rate: point(rate, 5.0 if rate <= holds else 80.0))
    assert curve.highest is not None
    assert curve.highest.rate_asked <= holds < curve.highest.rate_asked / (1 - FINE)
    assert curve.points[-1].rate_asked >= BEYOND * curve.highest.rate_asked
    assert "p99 is 80.0 ms" in curve.reason
    assert not curve.to_json()["highest"]["at_least"]


def test_failed_requests_are_not_held() -> None:
    curve = found(lambda rate: point(rate, 5.0, failed=0 if rate <= 300 else 7))
    assert curve.highest is not None
    assert curve.highest.rate_asked <= 300
    assert "7 requests failed: HTTP 503" in curve.reason


def test_generator_that_is_the_limit_is_said() -> None:
    curve = found(lambda rate: point(rate, 5.0, invalid=None if rate <= 300 else "the generator was measured, …"))
    assert curve.highest is not None
    assert curve.highest.rate_asked <= 300
    assert curve.reason.endswith("/s the generator was measured, …")
    assert curve.to_json()["highest"]["at_least"]


def test_one_busy_moment_of_the_generator_ends_nothing() -> None:
    asked: list[float] = []

    def measure(rate: float) -> Point:
        asked.append(rate)
        return point(rate, 5.0 if rate <= 730 else 80.0, invalid="busy" if asked.count(rate) == 1 else None)

    curve = found(measure)
    assert curve.highest is not None
    assert curve.highest.rate_asked > 730 * (1 - FINE)


@pytest.mark.parametrize("busy", [{1, 2}, {3}, {5, 6}, {8, 9}])
def test_one_busy_moment_of_the_server_ends_nothing(busy: set[int]) -> None:
    asked: list[float] = []

    def measure(rate: float) -> Point:
        asked.append(rate)
        return point(rate, 80.0 if rate > 2000 or len(asked) in busy else 5.0)

    curve = found(measure)
    assert curve.highest is not None
    assert curve.highest.rate_asked > 2000 * (1 - FINE)


def test_bound_that_no_rate_holds() -> None:
    curve = found(lambda rate: point(rate, 30.0))
    assert curve.highest is None
    assert curve.to_json()["highest"] is None
    assert curve.reason == "at 50/s p99 is 30.0 ms"


def test_server_that_holds_everything() -> None:
    curve = found(lambda rate: point(rate, 1.0))
    assert curve.highest is not None
    assert curve.highest == curve.points[-1]
    assert "where the search ends" in curve.reason
    assert curve.to_json()["highest"]["at_least"]


def test_curves_replace_those_of_the_same_model_and_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*curves: tuple[str, str, float]) -> list[dict]:
        made = [
            search(model, target, bound_ms=BOUND_MS, measure=lambda rate, p=p99: point(rate, p)).to_json()
            for model, target, p99 in curves
        ]
        path = results.write_curves(made, folder=tmp_path)
        data = json.loads(path.read_text())
        assert json.loads((tmp_path / "history" / data["run_id"] / path.name).read_text()) == data
        return data["curves"]

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(results.environment, "host", lambda: {**HOST, "name": "elsewhere"})
        write(("mlp", "serving-rest", 30.0), ("mlp", "edge-http", 31.0))
    curves = write(("mlp", "serving-rest", 32.0), ("cnn", "serving-rest", 33.0))
    assert [(c["model"], c["target"], c["points"][0]["p99_ms"]) for c in curves] == [
        ("mlp", "serving-rest", 32.0),
        ("mlp", "edge-http", 31.0),
        ("cnn", "serving-rest", 33.0),
    ]
    assert [c["host"]["name"] for c in curves] == [HOST["name"], "elsewhere", HOST["name"]]


@pytest.mark.parametrize("content", ["{", '{"schema": 1, "curves": [{"model": "mlp"}]}'])
def test_damaged_file_of_curves_does_not_lose_a_finished_search(tmp_path: Path, content: str) -> None:
    (tmp_path / "load-curves.json").write_text(content)
    curve = search("mlp", "edge-http", bound_ms=BOUND_MS, measure=lambda rate: point(rate, 1.0))
    path = results.write_curves([curve.to_json()], folder=tmp_path)
    assert [c["target"] for c in json.loads(path.read_text())["curves"]] == ["edge-http"]


@pytest.mark.slow
def test_a_rate_is_measured_on_a_real_server(lone_generator: Generator) -> None:
    config = artifacts_root() / "repository" / "models.config"
    with local_server(config, engine="litert") as server:
        one = measured(lone_generator, "mlp", "serving-rest", 400.0, seconds=0.5, address=server.rest_address)
    gone = measured(lone_generator, "mlp", "serving-rest", 400.0, seconds=0.5, repeats=1, address=server.rest_address)
    assert one.failed == 0
    assert one.rate_asked == 400
    assert one.p50_ms is not None
    assert one.p99_ms is not None
    assert 0 < one.p50_ms <= one.p99_ms
    assert one.error == ""
    assert gone.failed > 0
    assert gone.p99_ms is None
    assert "requests failed: " in dataclasses.replace(gone, invalid=None).broken(BOUND_MS)


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", ""])
def test_value_that_is_no_number_above_nought(text: str) -> None:
    with pytest.raises(TargetError, match=f"--seconds={text} is of no use; give a number of s above 0"):
        positive("--seconds", text, "s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--p99=much"], "--p99=much is of no use; give a number of ms above 0, for example --p99=20"),
        (["--target=serving"], "no load can be put on 'serving'; there are: serving-rest"),
        (["--workers=0"], "0 workers send nothing; use 1 or more"),
    ],
)
def test_search_says_what_is_wrong_with_its_arguments(arguments: list[str], message: str) -> None:
    done = run_command(main, "--target=serving-rest", "--model=mlp", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
