from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from models.artifacts import REPOSITORY
from tests.conftest import wait_until_gone
from tests.deploy.deployment import Deployment, new_deployments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One that is up, for tests that change a thing of it and look at what became of the rest."""
    with new_deployments() as make:
        deployment = make(tmp_path_factory.mktemp("running"))
        (deployment.folder / "watched").mkdir()
        (deployment.folder / "watched" / "1").write_text("version 1")
        up = deployment.run("up")
        assert up.returncode == 0, up.stderr
        yield deployment


@pytest.mark.slow
@pytest.mark.parametrize("place", ["short", "long" * 30], ids=["short", "long"])
def test_up_then_down_starts_all_and_leaves_nothing(
    make_deployment: Callable[..., Deployment], tmp_path: Path, place: str
) -> None:
    """Also where the path is too long for a socket."""
    deployment = make_deployment(tmp_path / place)
    up = deployment.run("up")
    assert up.returncode == 0, up.stderr
    assert f"curl http://127.0.0.1:{deployment.ports['REST_PORT']}/" in up.stdout
    assert all(answers(port) for port in deployment.ports.values())
    assert deployment.run("status").returncode == 0
    assert {p.name for p in (deployment.artifacts / "logs").iterdir()} >= {"first.log", "second.log", "supervisord.log"}

    down = deployment.run("down")
    assert down.returncode == 0
    assert "stopped first, second" in down.stdout
    assert deployment.processes() == []
    assert not any(answers(port) for port in deployment.ports.values())
    assert deployment.run("status").returncode == 1


def test_down_when_nothing_runs_is_harmless(deployment: Deployment) -> None:
    done = deployment.run("down")
    assert (done.returncode, done.stdout) == (0, "nothing was running\n")


@pytest.mark.slow
def test_up_again_restarts_only_what_changed(running: Deployment) -> None:
    before = running.pids()
    assert set(before) == {"first", "second"}

    assert running.run("up").returncode == 0
    assert running.pids() == before, "nothing changed"

    (running.folder / "watched" / "2").write_text("version 2")
    assert running.run("up").returncode == 0
    assert running.pids() == before, "the service picks up a new version by itself"

    (running.folder / "watched" / "1").write_text("version 1, made again")
    assert running.run("up").returncode == 0
    replaced = running.pids()
    assert replaced["first"] != before["first"]
    assert replaced["second"] == before["second"]

    (running.folder / "first").write_text("its code")
    assert running.run("up").returncode == 0
    changed = running.pids()
    assert changed["first"] != replaced["first"]
    assert changed["second"] == before["second"]


def test_up_with_another_port_moves_that_service(running: Deployment, free_port: Callable[[], int]) -> None:
    before, old = running.pids(), running.ports["EDGE_PORT"]
    running.ports["EDGE_PORT"] = free_port()
    assert running.run("up").returncode == 0
    assert answers(running.ports["EDGE_PORT"])
    assert not answers(old)
    assert running.pids()["first"] == before["first"]


def test_killed_service_comes_back(running: Deployment) -> None:
    pid = running.pids()["second"]
    psutil.Process(pid).kill()
    wait_until(lambda: running.pids().get("second", pid) != pid, "another process in its place")
    wait_until(lambda: answers(running.ports["EDGE_PORT"]), "an answer")


@pytest.mark.slow
def test_second_deployment_does_not_disturb_the_first(
    running: Deployment, make_deployment: Callable[..., Deployment], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    before, two = running.pids(), make_deployment(tmp_path / "two")
    two.ports["EDGE_PORT"] = running.ports["EDGE_PORT"]
    assert "is taken by" in two.run("up").stderr
    two.ports["EDGE_PORT"] = free_port()
    assert two.run("up").returncode == 0
    assert two.run("down").returncode == 0
    assert running.pids() == before


@pytest.mark.slow
def test_supervisor_killed_is_cleared_up(deployment: Deployment) -> None:
    assert deployment.run("up").returncode == 0
    for action in ("up", "down"):
        orphans = list(deployment.pids().values())
        assert len(orphans) == 2
        supervisor = deployment.supervisor()
        supervisor.kill()
        wait_until_gone([supervisor])
        assert "not started" in deployment.run("status").stdout

        done = deployment.run(action)
        assert done.returncode == 0, done.stderr
        assert not any(psutil.pid_exists(pid) for pid in orphans)
        assert all(answers(port) == (action == "up") for port in deployment.ports.values())


def test_taken_port_is_named_with_its_owner(deployment: Deployment, spawn: Callable[..., subprocess.Popen]) -> None:
    port = deployment.ports["REST_PORT"]
    owner = spawn(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port), "the owner's answer")
    done = deployment.run("up")
    assert done.returncode == 2
    assert (
        f"port {port} (REST_PORT, first) is taken by process {owner.pid} ({sys.executable} -m http.server {port}"
        in done.stderr
    )
    assert "REST_PORT=" in done.stderr
    assert "make deploy-all" in done.stderr
    assert deployment.processes() == []


@pytest.mark.slow
def test_service_that_ends_at_once_shows_the_end_of_its_log(
    make_deployment: Callable[..., Deployment], tmp_path: Path
) -> None:
    deployment = make_deployment(
        tmp_path,
        services="""
[broken]
about = "ends at once"
command = ["{python}", "-c", "raise SystemExit('the reason why')"]
ports = ["REST_PORT"]
health = "http://127.0.0.1:{{REST_PORT}}/"
within_s = 60
addresses = ["http://127.0.0.1:{{REST_PORT}}"]
try = "nothing"
""",
    )
    done = deployment.run("up")
    assert done.returncode == 2
    assert "the reason why" in done.stdout
    assert str(deployment.artifacts / "logs" / "broken.log") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_interrupted_up_stops_clean(make_deployment: Callable[..., Deployment], tmp_path: Path) -> None:
    deployment = make_deployment(
        tmp_path,
        services="""
[deaf]
about = "runs and never answers"
command = ["{python}", "-c", "import time; time.sleep(600)"]
ports = ["REST_PORT"]
health = "http://127.0.0.1:{{REST_PORT}}/"
within_s = 120
addresses = ["http://127.0.0.1:{{REST_PORT}}"]
try = "nothing"
""",
    )
    up = subprocess.Popen(
        deployment.command("up"), cwd=REPOSITORY, env=deployment.environment(), stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(deployment.processes()) >= 2, "the supervisor and its service")
    wait_until(lambda: deployment.run("status").stdout.count("nothing listens"), "the status of a deaf service")
    up.send_signal(signal.SIGINT)
    _, error = up.communicate(timeout=30)
    assert up.returncode == 130
    assert "Traceback" not in error
    assert deployment.run("down").returncode == 0
    assert deployment.processes() == []


def test_unwritable_artifacts_is_one_sentence_with_a_remedy(deployment: Deployment) -> None:
    """The process itself: what it ends with, and no traceback."""
    deployment.artifacts.write_text("a file where the folder should be")
    done = subprocess.run(
        deployment.command("up"), cwd=REPOSITORY, env=deployment.environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "ARTIFACTS=/another/folder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_full_disk_is_one_sentence_with_a_remedy(make_deployment: Callable[..., Deployment], tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", full], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        deployment = make_deployment(tmp_path / "here")
        (full / "filler").write_bytes(b"x" * 4096)
        done = deployment.run("up", ARTIFACTS=str(full / "artifacts"))
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    finally:
        subprocess.run(["umount", full], check=True)
