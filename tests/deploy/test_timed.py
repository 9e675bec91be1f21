from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from deploy import timed
from deploy.timed import Spent, record, steps_of_the_run, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``time("train", "--", "true", run="1")``: the command's exit code; its table lies in ``tmp_path``."""
    monkeypatch.setenv("ARTIFACTS", str(tmp_path))

    def run(*words: str, run: str = "1") -> int:
        monkeypatch.setenv("MAKE_RUN", run)
        return timed.main(words)

    return run


def test_steps_of_one_run_are_in_one_table(time, capfd: pytest.CaptureFixture[str]) -> None:
    time("deploy", "--", "true")
    assert time("train", "--table", "--", "echo", "said") == 0
    said = capfd.readouterr().out
    assert "said\n[train: " in said
    assert [line.split()[0] for line in said.splitlines()[-5:-1]] == ["step", "train", "deploy", "all"]
    time("export", "--", "true", run="2")
    assert list(steps_of_the_run()) == ["export"]


def test_table_tells_the_whole_and_what_the_cores_allow(time, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands of one step are one row; steps side by side do not add up."""
    monkeypatch.setenv("MAKE_RUN", "1000000000000")  # 1,000 s
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    record("convert", Spent(1010, 1040, 25.0))
    record("convert", Spent(1010, 1050, 15.0))
    record("train", Spent(1002, 1010, 8.0))
    rows = [line.split() for line in table().splitlines()]
    assert rows[3:6] == [
        ["train", "2.0", "10.0", "8.0", "8.0"],
        ["convert", "10.0", "50.0", "40.0", "40.0"],
        ["all", "50.0", "48.0"],
    ]
    assert table().endswith("2 cores were 48 % busy with these steps; at 100 % they would take 24 s.")


@pytest.mark.parametrize("code", [1, 2])
def test_failed_step_keeps_its_exit_code(time, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert time("compare", "--table", "--", sys.executable, "-c", f"raise SystemExit({code})") == code
    assert f"exit code {code}" in capfd.readouterr().out
    assert list(steps_of_the_run()) == ["compare"]


@pytest.mark.parametrize("content", ['{"run": "1", "seco', json.dumps({"run": "1", "seconds": {"train": 2.0}})])
def test_table_that_is_damaged_or_of_an_older_form_is_begun_again(time, tmp_path: Path, content: str) -> None:
    (tmp_path / "times.json").write_text(content)
    assert time("train", "--", "true") == 0
    assert list(steps_of_the_run()) == ["train"]
