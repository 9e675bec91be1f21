"""Steps side by side: their order, what they print, and how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from deploy import build
from deploy.build import GOALS, STEPS, Build, Step, needed
from deploy.timed import steps_of_the_run
from models.artifacts import REPOSITORY
from tests.conftest import wait_until_gone

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_table_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("MAKE_RUN", "1")


def python(program: str, *after: str, label: str = "") -> Step:
    return Step((sys.executable, "-c", program), after=after, label=label)


# Each of the two waits for a file that the other makes: one by one they would never end.
MEETING = "import pathlib, time\npathlib.Path('{0}').touch()\nwhile not pathlib.Path('{1}').exists(): time.sleep(0.01)"


def test_steps_that_do_not_need_each_other_run_side_by_side(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    steps = {
        "one": python(MEETING.format(one, two), label="both"),
        "two": python(MEETING.format(two, one), label="both"),
        "last": python(f"import os; print(sorted(os.listdir({str(tmp_path)!r})))", "one", "two"),
    }
    assert Build(steps).run(needed(["last"], steps)) == 0
    assert capfd.readouterr().out == f"{'last':<{build.WIDTH}} | ['artifacts', 'one', 'two']\n"
    assert list(steps_of_the_run()) == ["both", "last"]
    assert steps_of_the_run()["both"].cpu > 0


def test_failed_step_keeps_its_code_and_stops_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The user sees the step's own sentence, as it is, and nothing that came of the stop."""
    ready, stopped = tmp_path / "ready", tmp_path / "stopped"
    beside = (
        f"import pathlib, time\ntry:\n    pathlib.Path({str(ready)!r}).touch(); time.sleep(600)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(stopped)!r}).touch(); raise"
    )
    failing = (
        f"import sys, time, pathlib\nwhile not pathlib.Path({str(ready)!r}).exists(): time.sleep(0.01)\n"
        "print('error: no space left', file=sys.stderr); sys.exit(2)"
    )
    steps = {"beside": python(beside), "failing": python(failing), "never": python("print('never')", "failing")}
    assert Build(steps).run(["beside", "failing", "never"]) == 2
    assert capfd.readouterr() == ("", "error: no space left\n")
    assert stopped.exists()


def test_step_that_crashes_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    steps = {"train": python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")}
    assert Build(steps).run(["train"]) != 0
    assert capfd.readouterr().err == "error: the step train was ended by SIGSEGV\n"


def test_interrupted_build_leaves_no_process(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom deploy.build import Build, Step\nfrom models.errors import interruptible, run_cli\n"
        "steps = {'long': Step((sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)'))}\n"
        "interruptible(); run_cli(lambda: Build(steps).run(['long']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline().endswith("| 1\n")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "stopped; what was finished is kept, run the command again to go on\n"
    wait_until_gone(family)


@pytest.mark.parametrize("goal", GOALS)
def test_goal_runs_what_it_needs_in_an_order_that_works(goal: str) -> None:
    order = needed(GOALS[goal])
    assert len(order) == len(set(order))
    for name in order:
        assert all(order.index(before) < order.index(name) for before in STEPS[name].after)


def test_build_is_all_but_starting_the_services() -> None:
    assert {*needed(GOALS["build"])} == {*STEPS}
