"""``python -m loadtest`` and Locust's own page, as a user starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import jsonschema
import psutil
import pytest

from loadtest import __main__ as command
from loadtest import page, results, run
from loadtest.plan import Stage
from loadtest.profiles import Profile, find_profile, profile_names
from models.artifacts import REPOSITORY
from models.errors import DeployError, ExportOnceError
from tests.conftest import pick_free_port, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHORT = Profile(
    name="short", about="", arrival="poisson", stages=(Stage(seconds=0.25, rate=60),), users=1, closed_seconds=0.1
)


@pytest.mark.parametrize("name", ["smoke", "steady", "step", "spike", "soak"])
def test_profile_makes_both_loops(name):
    profile = find_profile(name)
    opened, closed = profile.plans("serving-rest", "mlp", seed=3)
    assert (opened.loop, closed.loop, opened.seed) == ("open", "closed", 3)
    assert opened.duration + closed.duration == profile.seconds
    assert opened.requests > 0
    assert 0 < opened.check <= 1
    assert 0 < opened.late_share < 1
    assert 0 < opened.cpu_share < 1


def test_profiles_are_those_of_the_file_and_smoke_fits_into_three_minutes():
    assert profile_names() == ["smoke", "steady", "step", "spike", "soak"]
    assert find_profile("smoke").seconds * 16 < 100  # the rest is for starting, and for what lies between the cells


@pytest.mark.slow
def test_run_writes_what_its_schema_says_and_its_history(services, tmp_path: Path, capsys, monkeypatch):
    """The four targets in one short run; whether the machine let the generator keep its schedule is not the question."""
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(command, "find_profile", lambda name: SHORT)
    code = command.main(["--models", "mlp", "--workers", "2"])
    printed = capsys.readouterr().out
    data = json.loads((tmp_path / "load.json").read_text())
    jsonschema.Draft202012Validator(results.schema("load")).validate(data)
    assert data == json.loads((tmp_path / "history" / data["run_id"] / "load.json").read_text())
    assert [(cell["target"], cell["loop"]) for cell in data["cells"]] == [
        (target, loop)
        for target in ("serving-rest", "serving-grpc", "edge-http", "web-http")
        for loop in ("open", "closed")
    ]
    for cell in data["cells"]:
        assert cell["failed"] == 0, cell["errors"]
        assert cell["answered"] == cell["sent"] > 0
        assert cell["version"] == 2
        assert cell["server"]["cpu_us"] > 0
        assert cell["server"]["rss_bytes"] > 1e6
        assert 1 <= cell["attempts"] <= 3
        assert cell["rate_asked"] == (60 if cell["loop"] == "open" else None)
    spent = {cell["target"]: cell["phases_us"] for cell in data["cells"] if cell["loop"] == "open"}
    assert spent["edge-http"]["compute"] > 0  # the model servers of the tests have no page of metrics
    assert code == (1 if any(cell["invalid"] for cell in data["cells"]) else 0)
    assert "How long do answers take?" in printed
    assert printed.strip().splitlines()[-1].endswith(f"report: {tmp_path / 'index.html'}")


@pytest.mark.slow
def test_run_that_cannot_keep_its_schedule_exits_with_1(services, tmp_path: Path, capsys, monkeypatch):
    stages = (Stage(seconds=0.005, rate=200_000),)  # a thousand at once
    absurd = Profile(name="absurd", about="", arrival="poisson", stages=stages, users=1, closed_seconds=0.1)
    monkeypatch.setenv("REPORTS", str(tmp_path))
    monkeypatch.setattr(command, "find_profile", lambda name: absurd)
    monkeypatch.setattr(run, "ATTEMPTS", 1)  # that an invalid run is made again: test_outcome.py
    assert command.main(["--models", "mlp", "--targets", "serving-rest", "--json"]) == 1
    printed = capsys.readouterr()
    (opened, _) = json.loads(printed.out)["cells"]
    assert "the generator was measured, not the server" in opened["invalid"]
    assert "INVALID" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--targets", "keras"],
            "no load can be put on 'keras'; there are: serving-rest, serving-grpc, edge-http, web-http",
        ),
        (["--models", "mlq"], "no export of a model named 'mlq'; there are: "),
        (["--workers", "0"], "--workers=0 --seed=0: use 1 worker or more"),
        (
            ["--targets", "serving-rest"],
            "no server answers at 127.0.0.1:{REST_PORT}; run `make deploy-all` to start it",
        ),
        (["--targets", "serving-grpc"], "no server answers at 127.0.0.1:{GRPC_PORT}; run `make deploy-all`"),
        (
            ["--targets", "edge-http"],
            "no edge service answers at http://127.0.0.1:{EDGE_PORT}; start it with `make deploy-all`",
        ),
        (["--targets", "web-http"], "no web app answers at 127.0.0.1:{WEB_PORT}; run `make deploy-all`"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(arguments, message, tmp_path: Path, monkeypatch):
    ports = {name: str(pick_free_port()) for name in ("REST_PORT", "GRPC_PORT", "EDGE_PORT", "WEB_PORT")}
    for name, value in {**ports, "REPORTS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExportOnceError, match=re.escape(message.format(**ports))):
        command.main(arguments)
    assert not (tmp_path / "load.json").exists()


def test_error_is_a_line_and_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "--profile", "storm"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: no load profile is named 'storm'; there are: smoke, steady, step, spike, soak\n"


@pytest.mark.slow
def test_interrupt_leaves_no_process_and_no_half_run(services, tmp_path: Path, spawn):
    running = spawn(
        sys.executable, "-m", "loadtest", "--targets", "serving-rest",
        cwd=REPOSITORY, env={**os.environ, "REPORTS": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    rest = int(os.environ["REST_PORT"])

    def under_load() -> bool:
        assert running.poll() is None
        family = psutil.Process(running.pid).children(recursive=True)
        connections = [one for process in family for one in process.net_connections("tcp") if one.raddr]
        return any(one.raddr.port == rest for one in connections)

    wait_for(under_load)
    family = psutil.Process(running.pid).children(recursive=True)
    assert len(family) == 2  # Locust's master and its worker
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said == f"stopped; nothing is written, {tmp_path / 'load.json'} is as it was\n"
    wait_until_gone(family)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_locusts_page_puts_a_load_on_the_services(services, spawn, free_port: Callable[[], int]):
    """Two kinds of users by hand, then a profile as a shape; Locust's own statistics count no failure."""
    number = free_port()
    process = spawn(
        sys.executable,
        "-m",
        "loadtest.page",
        "--model",
        "cnn",
        cwd=REPOSITORY,
        env={**os.environ, "LOCUST_PORT": str(number)},
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{number}", timeout=30) as client:
        wait_for(lambda: answers(client, process))
        client.post(
            "/swarm", data={"user_count": 4, "spawn_rate": 4, "user_classes": ["RestUser", "GrpcUser"]}
        ).raise_for_status()
        wait_for(lambda: asked(client) == {"serving-rest", "serving-grpc"})
        client.post("/stop").raise_for_status()
        client.post(
            "/swarm", data={"shape_class": "Steady", "user_classes": ["EdgeUser", "WebUser"]}
        ).raise_for_status()
        wait_for(lambda: asked(client) == {"edge-http", "web-http"})
        wait_for(lambda: client.get("/stats/requests").json()["user_count"] == 15)  # 150 requests per second


def test_locusts_page_on_a_taken_port_is_one_sentence(services, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        monkeypatch.setenv("LOCUST_PORT", str(number))
        with pytest.raises(
            DeployError, match=f"cannot listen on port {number} .*choose another: LOCUST_PORT={number + 1}"
        ):
            page.main(["--target", "serving-rest"])


def answers(client: httpx.Client, page: subprocess.Popen) -> bool:
    assert page.poll() is None
    try:
        return client.get("/").status_code == 200
    except httpx.TransportError:
        return False


def asked(client: httpx.Client) -> set[str]:
    """The targets on which requests were answered since the last start."""
    statistics = client.get("/stats/requests").json()
    assert not statistics["errors"]
    return {row["method"] for row in statistics["stats"] if row["num_requests"] and row["name"] == "cnn"}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.1)
