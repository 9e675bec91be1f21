"""The load generator on a real server: it counts right answers, and notices wrong ones, refusals and waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from loadtest import bench_serving
from loadtest.connections import GrpcConnection, HttpConnection, connect
from loadtest.loops import Load, closed_loop, open_loop
from loadtest.questions import GRPC_PATH, Question, questions
from models.artifacts import artifacts_root
from serving.local import LocalServer, local_server
from tests.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from export.bundle import Export

PROTOCOLS = {"rest": HttpConnection, "grpc": lambda: GrpcConnection(GRPC_PATH)}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server(artifacts_root() / "repository" / "models.config", engine="litert") as running:
        yield running


@pytest.fixture
def mlp(exports: dict[tuple[str, int], Export]) -> Export:
    return exports["mlp", 2]


def ask(server: LocalServer, protocol: str, asked: list[Question], loop=closed_loop, **how) -> Load:
    async def run() -> Load:
        port = server.rest_port if protocol == "rest" else server.grpc_port
        connections = await connect(PROTOCOLS[protocol], port, 4)
        try:
            return await loop(connections, asked, **how)
        finally:
            connections.close()

    return asyncio.run(run())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model", ["mlp", "cnn", "lstm", "transformer"])
def test_closed_loop_gets_the_evidences_answers(server, exports, protocol, model):
    load = ask(server, protocol, questions(exports[model, 2], protocol), concurrency=16, seconds=0.2)
    assert not load.errors
    assert len(load.latencies) > 16


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_wrong_answer_is_an_error(server, mlp, protocol):
    wrong = [dataclasses.replace(q, expected=q.expected + 1e-3) for q in questions(mlp, protocol)]
    load = ask(server, protocol, wrong, concurrency=4, seconds=0.2)
    assert not load.latencies
    assert load.errors[0].startswith("the answer is off by 0.001")


@pytest.mark.parametrize(("protocol", "error"), [("rest", "HTTP 404"), ("grpc", "grpc-status 5")])
def test_refusal_is_an_error(server, mlp, protocol, error):
    unknown = [
        dataclasses.replace(q, path=q.path.replace("mlp", "mlq"), body=q.body.replace(b"mlp", b"mlq"))
        for q in questions(mlp, protocol)
    ]
    load = ask(server, protocol, unknown, concurrency=4, seconds=0.2)
    assert not load.latencies
    assert error in load.errors[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_open_loop_sends_what_is_due(server, mlp, protocol):
    load = ask(server, protocol, questions(mlp, protocol), open_loop, rate=200, seconds=0.5)
    assert not load.errors
    assert len(load.latencies) == 100


def test_open_loop_counts_the_time_that_requests_were_due(server, mlp):
    """The server stands still for 0.4 s: a closed loop would see it in a few requests, an open one in all that were due."""

    def pause() -> None:
        time.sleep(0.2)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        server.process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=pause)
    thread.start()
    load = ask(server, "rest", questions(mlp, "rest"), open_loop, rate=200, seconds=1.0)
    thread.join()
    assert len(load.latencies) == 200
    assert sum(latency > 0.1 for latency in load.latencies) > 40  # 80 were due, 60 of them for more than 0.1 s


@pytest.mark.slow
def test_bench_serving_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With few and short runs, each of a kind that the command has."""
    monkeypatch.setattr(bench_serving, "TAIL_RUNS", 2)
    monkeypatch.setattr(bench_serving, "stalls", functools.partial(bench_serving.stalls, 0.1))
    load = bench_serving.Bench._load
    monkeypatch.setattr(bench_serving.Bench, "_load", lambda *a: load(*a[:4], min(a[4], 0.1), *a[5:]))
    figures = tmp_path / "figures.json"
    done = run_command(
        bench_serving.main, "--models=mlp", "--runs=1", "--seconds=0.1", "--only=start,cpu,tail", "--json", figures
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a figure misses its limit, which a busy machine may cause
    found = json.loads(figures.read_text())
    assert {(row["protocol"], row["model"]) for row in found["cpu"]} == {("rest", "mlp"), ("grpc", "mlp")}
    assert all(row["cpu_us"] > 0 and row["in_process_us"] > 0 for row in found["cpu"])
    assert found["start"]["rss_mb"] > 0


def test_bench_serving_with_a_command_that_is_no_server():
    done = run_command(bench_serving.main, "--server", "false", "--models=mlp", "--only=start")
    assert done.returncode == 2
    assert "false ended with exit code 1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", "no-such-server --x"], "names no program that can be run; give its path and flags"),
        (["--server", "server 'x"], "is no command: No closing quotation; check its quotes"),
        (["--runs=0"], "--runs=0 measures nothing"),
        (["--seconds=nan"], "--seconds=nan measures nothing"),
    ],
)
def test_bench_serving_says_what_is_wrong_with_its_arguments(arguments, message):
    done = run_command(bench_serving.main, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bench_serving_of_nothing_is_an_error(tmp_path: Path):
    done = run_command(bench_serving.main, "--only=start", ARTIFACTS=str(tmp_path))
    assert done.returncode == 2
    assert f"there is no model in {tmp_path} to ask; run `make publish`" in done.stderr
