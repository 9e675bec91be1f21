from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from models.artifacts import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def timed(tmp_path: Path, *arguments: str, run: str = "1") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.timed", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ARTIFACTS": str(tmp_path), "MAKE_RUN": run},
        capture_output=True,
        text=True,
    )


def steps(tmp_path: Path) -> list[str]:
    return list(json.loads((tmp_path / "times.json").read_text())["seconds"])


def test_steps_of_one_run_are_in_one_table(tmp_path: Path) -> None:
    timed(tmp_path, "deploy", "--", "true")
    done = timed(tmp_path, "train", "--table", "--", "echo", "said")
    assert done.returncode == 0
    assert done.stdout.startswith("said\n[train: ")
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["train", "deploy", "all"]
    timed(tmp_path, "export", "--", "true", run="2")
    assert steps(tmp_path) == ["export"]


@pytest.mark.parametrize("code", [1, 2])
def test_failed_step_keeps_its_exit_code(tmp_path: Path, code: int) -> None:
    done = timed(tmp_path, "compare", "--table", "--", sys.executable, "-c", f"raise SystemExit({code})")
    assert done.returncode == code
    assert f"exit code {code}" in done.stdout
    assert steps(tmp_path) == ["compare"]


def test_damaged_table_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text('{"run": "1", "seco')
    assert timed(tmp_path, "train", "--", "true").returncode == 0
    assert steps(tmp_path) == ["train"]
