from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from deploy.environments import Environment, load_environments
from deploy.lock import ADDRESS, check, pairs, read_constraints, read_pins, with_constraints, without_constraints
from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENTS = load_environments()


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.name)
def test_lock_has_hashes_and_no_address(environment: Environment) -> None:
    text = (environment.folder / environment.lock).read_text()
    assert not ADDRESS.search(text)
    pins = read_pins(environment.folder / environment.lock)
    assert text.count("--hash=sha256:") >= len(pins) > 1


@pytest.mark.parametrize(("environment", "richest"), pairs(ENVIRONMENTS), ids=lambda e: e.name if e else "alone")
def test_lock_and_constraints_are_the_same_pins(environment: Environment, richest: Environment | None) -> None:
    assert check(environment, richest) == []
    pins = set(read_pins(environment.folder / environment.lock))
    constraints = set(read_constraints(environment.folder / "pyproject.toml"))
    assert pins <= constraints if richest else pins == constraints


def test_light_environments_have_no_tensorflow() -> None:
    light = {e.name: e for e in ENVIRONMENTS if e.name in ("edge", "edge/tflite-runtime", "web", "serving/server")}
    assert len(light) == 4
    for environment in light.values():
        pins = read_pins(environment.folder / environment.lock)
        assert not [pin for pin in pins if pin.startswith(("tensorflow", "keras"))]


def test_check_finds_a_lock_that_differs(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "environments.toml").write_text('["."]\npython = ["3.11"]\nlock = "requirements.txt"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["numpy", "rich"]\n')
    (tmp_path / "requirements.txt").write_text("numpy==2.4.0 \\\n    --hash=sha256:0\n")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.lock", "--check", "--root", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "differ in 1 pins, first numpy==2.4.0" in done.stderr
    assert "requirements.txt lacks rich" in done.stderr
    assert "run `make lock`" in done.stderr


def test_constraints_are_written_and_taken_out_again() -> None:
    text = '[project]\nname = "x"\n\n[tool.uv]\npackage = false\n\n[tool.ruff]\nline-length = 120\n'
    pins = ["numpy==2.4.0 ; python_full_version < '3.12'", "setuptools==84.0"]
    written = with_constraints(text, pins, "requirements.txt")
    uv = tomllib.loads(written)["tool"]["uv"]
    assert uv["constraint-dependencies"] == pins
    assert uv["build-constraint-dependencies"] == ["setuptools==84.0"]
    assert uv["package"] is False
    assert with_constraints(written, pins, "requirements.txt") == written
    assert without_constraints(written) == text


def test_every_workflow_action_is_pinned_to_a_commit() -> None:
    uses = [
        line.split("uses:")[1].split()[0]
        for path in (REPOSITORY / ".github" / "workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert uses
    assert all(len(action.partition("@")[2]) == 40 for action in uses)
