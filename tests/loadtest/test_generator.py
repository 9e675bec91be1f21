"""The load generator's own processes on real services: what it counts, what it calls wrong, and when it doubts itself."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import socketserver
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from loadtest.generator import Generator, Plan, Stage
from loadtest.histogram import percentiles
from models.artifacts import REPOSITORY, artifacts_root
from models.errors import DeployError, TargetError
from serving.local import local_server
from serving.models_config import config_text
from tests.conftest import pick_free_port, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = Plan(target="serving-rest", model="mlp", loop="open", stages=(Stage(seconds=0.4, rate=200),), check=0.5)
CLOSED = Plan(target="serving-rest", model="mlp", loop="closed", users=3, seconds=0.3, check=1.0)
TARGETS = ["serving-rest", "serving-grpc", "edge-http", "web-http"]


@pytest.mark.parametrize("target", TARGETS)
def test_open_loop_sends_what_is_due(generator, target):
    outcome = generator.run(dataclasses.replace(OPEN, target=target))
    assert (outcome.sent, outcome.answered, outcome.failed, outcome.wrong) == (80, 80, 0, 0), outcome.errors
    assert outcome.latency.get_total_count() == outcome.service.get_total_count() == 80
    assert outcome.latency.get_mean_value() >= outcome.service.get_mean_value()
    assert 15 < outcome.checked < 65  # half of them, drawn
    assert outcome.generator["workers"] == 2
    assert outcome.generator["overhead_us"] > 0
    assert outcome.generator["cpu_us"] > 0
    assert sum(row["sent"] for row in outcome.timeline) == 80
    assert [row["at_s"] for row in outcome.timeline] == [0, 0.25]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_closed_loop_keeps_its_users_asking(generator, target):
    outcome = generator.run(dataclasses.replace(CLOSED, target=target))
    assert outcome.failed == 0, outcome.errors
    assert outcome.checked == outcome.answered == outcome.sent > 0
    assert outcome.plan.rate is None


@pytest.mark.slow
@pytest.mark.parametrize("target", ["serving-rest", pytest.param("edge-http", marks=pytest.mark.ci)])
@pytest.mark.parametrize("model", ["cnn", "lstm", "transformer"])
def test_every_model_answers_as_its_evidence(generator, target, model):
    outcome = generator.run(dataclasses.replace(OPEN, target=target, model=model, check=1.0, arrival="constant"))
    assert (outcome.checked, outcome.failed) == (80, 0), outcome.errors


@pytest.mark.slow
def test_merged_percentiles_are_those_of_the_raw_samples(generator):
    """Of both workers' samples together: the nearest rank's value, to the histogram's three digits."""
    outcome = generator.run(dataclasses.replace(OPEN, keep_samples=True))
    assert outcome.samples is not None
    assert all(outcome.samples)
    together = np.sort(np.concatenate(outcome.samples)) * 1e6
    for percentile in (0, 25, 50, 90, 95, 99, 99.9, 100):
        rank = max(1, math.floor(percentile / 100 * len(together) + 0.5))
        expected = outcome.latency.get_highest_equivalent_value(round(together[rank - 1]))
        (milliseconds,) = percentiles(outcome.latency, [percentile])
        assert milliseconds is not None
        found = round(milliseconds * 1e3)
        assert found == expected == pytest.approx(together[rank - 1], rel=1e-3, abs=1)
        if percentile:
            assert found == outcome.latency.get_value_at_percentile(percentile)


@pytest.mark.slow
def test_wrong_answers_are_failures(generator, tmp_path):
    """A server that has version 1 alone, an earlier checkpoint, is held against the evidence of version 2."""
    (tmp_path / "mlp").mkdir()
    (tmp_path / "mlp" / "1").symlink_to(artifacts_root() / "repository" / "mlp" / "1")
    config = tmp_path / "models.config"
    config.write_text(config_text({"mlp": [1]}, tmp_path))
    with local_server(config, engine="litert") as server:
        for target, address in (("serving-rest", server.rest_address), ("serving-grpc", server.grpc_address)):
            outcome = generator.run(dataclasses.replace(OPEN, target=target, address=address, check=1.0))
            assert outcome.sent == outcome.checked == outcome.wrong == outcome.failed == 80
            assert outcome.answered == outcome.latency.get_total_count() == 0
            assert all(error["message"].startswith("the answer is off by") for error in outcome.errors)
            assert outcome.row()["latency_ms"]["p99"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "reason"), [("serving-rest", "Connection refused"), ("serving-grpc", "UNAVAILABLE")]
)
@pytest.mark.parametrize(
    "plan", [pytest.param(OPEN, id="open"), pytest.param(CLOSED, id="closed", marks=pytest.mark.ci)]
)
def test_refused_requests_are_failures(generator, plan, target, reason):
    outcome = generator.run(dataclasses.replace(plan, target=target, address=f"127.0.0.1:{pick_free_port()}"))
    assert outcome.sent == outcome.failed > 0
    assert reason in outcome.errors[0]["message"]
    assert outcome.row()["rate"] == 0


@pytest.mark.slow
def test_connections_that_a_server_ended_while_idle_are_opened_again(generator):
    stages = (Stage(seconds=0.3, rate=40), Stage(seconds=2.4, rate=0), Stage(seconds=0.3, rate=40))
    with gated_server(free=1000, idle_s=1.2) as (address, _):
        outcome = generator.run(dataclasses.replace(OPEN, address=address, check=0.0, stages=stages))
    assert (outcome.sent, outcome.failed) == (24, 0), outcome.errors


@pytest.mark.slow
@pytest.mark.exhaustive
def test_connections_that_a_service_ended_while_idle_are_opened_again(generator):
    """The edge service ends a connection that is idle for 9 s; that is no failed request."""
    stages = (Stage(seconds=0.5, rate=40), Stage(seconds=11, rate=0), Stage(seconds=0.5, rate=40))
    outcome = generator.run(dataclasses.replace(OPEN, target="edge-http", stages=stages))
    assert (outcome.sent, outcome.failed) == (40, 0), outcome.errors


def test_unknown_model_is_an_error_with_its_name(generator):
    with pytest.raises(TargetError, match="no export of a model named 'mlq'; there are: "):
        generator.run(dataclasses.replace(OPEN, model="mlq"))
    assert generator.run(OPEN).failed == 0  # the processes are as good as before


@pytest.mark.slow
def test_generator_that_cannot_keep_up_says_so(generator):
    outcome = generator.run(dataclasses.replace(OPEN, stages=(Stage(seconds=0.1, rate=200_000),)))
    assert outcome.invalid is not None
    assert outcome.invalid.startswith("the generator was measured, not the server: ")
    assert "requests were never sent" in outcome.invalid
    assert outcome.late > 0


def test_during_runs_while_the_load_is_on(generator):
    """Nothing is answered before it has run, and all is answered."""
    with gated_server(free=4) as (address, gate):  # each worker asks once on two connections before its schedule
        outcome = generator.run(dataclasses.replace(OPEN, address=address, check=0.0), during=gate.set)
    assert (outcome.sent, outcome.failed) == (80, 0), outcome.errors


@pytest.mark.slow
def test_requests_that_are_never_answered_fail_when_they_were_due():
    load = dataclasses.replace(OPEN, stages=(Stage(seconds=1, rate=20),), arrival="constant")
    with gated_server(free=2) as (address, _):
        part = drive(dataclasses.replace(load, address=address), worker=0, workers=1)
    assert part["errors"] == {"no answer within 10 s": 20}
    assert [bin_[:3] for bin_ in part["bins"]] == [[number, 5, 0] for number in range(4)]


@pytest.mark.slow
def test_worker_without_a_user_takes_no_cpu_time():
    part = drive(dataclasses.replace(CLOSED, users=1), worker=1, workers=2)
    assert part["sent"] == 0
    assert part["cpu"] < 0.5


@pytest.mark.slow
def test_error_of_during_is_the_callers(generator):
    def fail() -> None:
        raise ValueError("not mine")

    with pytest.raises(ValueError, match="not mine"):
        generator.run(OPEN, during=fail)
    assert generator.run(OPEN).failed == 0


@pytest.mark.slow
def test_worker_that_is_killed_is_an_error(services):
    with Generator(workers=2) as generator:
        family = psutil.Process(generator.pid).children(recursive=True)
        threading.Timer(0.5, lambda: next(p for p in family if "loadtest.worker" in p.cmdline()).kill()).start()
        with pytest.raises(DeployError, match="a worker of the load ended with exit code -9"):
            generator.run(dataclasses.replace(OPEN, stages=(Stage(seconds=3, rate=20),)))
    wait_until_gone(family)


@pytest.mark.slow
def test_master_that_is_killed_between_plans_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Generator() as generator:
        family = [psutil.Process(generator.pid), *psutil.Process(generator.pid).children(recursive=True)]
        family[0].kill()
        wait_until_gone(family)
        with pytest.raises(DeployError, match="the load generator ended with exit code -9"):
            generator.run(OPEN)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_generator_of_no_workers_is_refused():
    with pytest.raises(DeployError, match="0 workers send nothing"):
        Generator(workers=0)


@pytest.mark.slow
def test_generators_processes_end_with_whoever_started_them():
    program = "import time; from loadtest.generator import Generator\nwith Generator() as g: print(g.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        master = psutil.Process(int(parent.stdout.readline()))
        family = [master, *master.children(recursive=True)]
        assert len(family) == 2
    finally:
        parent.kill()
        parent.communicate()
    wait_until_gone(family)


def drive(plan: Plan, *, worker: int, workers: int) -> dict[str, Any]:
    """A worker's part, in a process of its own whose patience for answers ends with the schedule."""
    program = """
import json, sys, time
from loadtest import drive
from loadtest.plan import Plan
from locust.env import Environment
drive.PATIENCE_S = -1
asked = json.loads(sys.argv[1])
driven = drive.Drive(Environment(user_classes=[]), Plan.from_json(asked.pop("plan")), **asked)
driven.prepare()
print(json.dumps(driven.run(time.perf_counter() + 0.05)))
"""
    asked = json.dumps({"plan": plan.to_json(), "worker": worker, "workers": workers})
    command = [sys.executable, "-c", program, asked]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def gated_server(*, free: int, idle_s: float | None = None) -> Iterator[tuple[str, threading.Event]]:
    """Its host:port, and what lets its answers out; so many are free before that.

    A connection on which nothing comes for ``idle_s`` is ended.
    """
    gate, tickets = threading.Event(), threading.Semaphore(free)

    class Handler(socketserver.StreamRequestHandler):
        timeout = idle_s

        def handle(self) -> None:
            with contextlib.suppress(TimeoutError):
                self.answer_all()

        def answer_all(self) -> None:
            while line := self.rfile.readline():
                length = 0
                while line.strip():
                    name, _, value = line.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                    line = self.rfile.readline()
                self.rfile.read(length)
                if not tickets.acquire(blocking=False):
                    gate.wait()
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", gate
        finally:
            gate.set()
            server.shutdown()
            thread.join()
