"""When a run is called invalid because of the generator's CPU, which repeats are made, and what a watch of CPU time counts."""

from __future__ import annotations

import time
from typing import Any

import pytest

from loadtest import outcome, run
from loadtest.cpu_watch import CpuWatch
from loadtest.histogram import encoded, histogram
from loadtest.outcome import Outcome
from loadtest.plan import Plan, Stage

PLAN = Plan(target="serving-rest", model="mlp", loop="open", stages=(Stage(seconds=1, rate=10),))


def part(cpu: float) -> dict[str, Any]:
    """Of a worker that saw ten good answers."""
    text = encoded(histogram([0.002] * 10))
    counts = {"sent": 10, "answered": 10, "wrong": 0, "checked": 0, "late": 0, "unsent": 0}
    told = {"cpu": cpu, "cpu_us": 100.0, "overhead_us": 80.0, "realtime": True, "late_max_ms": 0.1, "seconds": 1.0}
    return {**counts, **told, "latency": text, "service": text, "errors": {}, "bins": [], "samples": None}


@pytest.mark.parametrize(
    ("cores", "workers", "reason"),
    [
        (2, [0.5], None),
        (1, [0.85], None),
        (2, [0.95], "a worker used 95% of a core in one second"),
        (2, [0.5, 0.45], "2 workers used 95% of a core, and the 2 cores are the server's too; ask for a lower rate, or run"),
        (3, [0.5, 0.45], None),
        (4, [0.8, 0.8, 0.8, 0.8], "4 workers used 320% of a core, and the 4 cores are the server's too"),
    ],
)  # fmt: skip
def test_workers_leave_a_core_to_the_server(cores, workers, reason, monkeypatch):
    monkeypatch.setattr(outcome, "cores", lambda: cores)
    found = Outcome.of(PLAN, [part(cpu) for cpu in workers], started=0.0)
    assert found.row()["generator"]["realtime"]
    if reason is None:
        assert found.invalid is None
    else:
        assert reason in (found.invalid or "")


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([(None, 0)], 0),
        ([("late", 0), (None, 0)], 1),
        ([("late", 0), ("late", 3), (None, 0)], 1),  # failures are no hiccup of the generator's: they stay
        ([("late", 0)] * 3 + [(None, 0)], 2),
    ],
)
def test_invalid_run_is_made_again_but_never_one_with_failures(runs, kept, monkeypatch):
    rows = [{"invalid": invalid, "failed": failed, "run": number} for number, (invalid, failed) in enumerate(runs)]
    coming = iter(rows)
    monkeypatch.setattr(run, "ask_cell", lambda *_: next(coming))
    said: list[str] = []
    row = run.ask_until_valid(None, PLAN, None, tell=said.append)  # type: ignore[arg-type]  # neither is asked
    assert row == rows[kept] | {"attempts": kept + 1}
    assert len(said) == kept


def test_cpu_time_after_the_last_look_is_not_the_loads():
    watch = CpuWatch()
    burn(0.02)
    watch.look()
    seconds, worst = watch.seconds(), watch.worst()
    assert seconds >= 0.02
    burn(0.02)
    assert (watch.seconds(), watch.worst()) == (seconds, worst)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
