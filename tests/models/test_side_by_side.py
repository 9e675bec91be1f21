"""The same work on several models at a time: in which order, by which processes, and what an error or Ctrl-C leaves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from models.artifacts import sweep
from models.errors import ModelError
from models.side_by_side import side_by_side
from tests.conftest import wait_until_gone
from tests.models.many import die, note, refuse

if TYPE_CHECKING:
    from pathlib import Path


def begun(folder: Path) -> dict[str, tuple[int, int]]:
    """{item: (when, by which process)}"""
    return {path.name: tuple(map(int, path.read_text().split())) for path in folder.iterdir()}  # type: ignore[misc]


def test_every_item_is_done_by_other_processes(tmp_path: Path):
    side_by_side(partial(note, folder=tmp_path), ["c", "a", "b"])
    done = begun(tmp_path)
    assert set(done) == {"a", "b", "c"}
    assert os.getpid() not in {process for _, process in done.values()}


def test_items_are_begun_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By one process, as where there is one core: several begin at about one time."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    side_by_side(partial(note, folder=tmp_path), ["c", "a", "d", "b"])
    done = begun(tmp_path)
    assert sorted(done, key=lambda item: done[item]) == ["c", "a", "d", "b"]
    assert len({process for _, process in done.values()}) == 1


def test_single_item_is_done_by_this_process(tmp_path: Path):
    side_by_side(partial(note, folder=tmp_path), ["only"])
    assert begun(tmp_path)["only"][1] == os.getpid()


@pytest.mark.parametrize("items", [["endless", "bad", "later"], ["bad", "endless", "later"]])
def test_first_error_is_raised_as_itself_and_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(ModelError, match=r"^bad cannot be used; take another$"):
        side_by_side(partial(refuse, folder=tmp_path), items)
    assert not multiprocessing.active_children()
    left = list(tmp_path.iterdir())  # of processes that were ended
    assert any(path.name.endswith("-endless") for path in left)
    for path in left:
        assert path.name.startswith(".tmp-")
        assert not psutil.pid_exists(int(path.name.split("-")[1]))
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_process_that_is_killed_is_one_sentence():
    with pytest.raises(ModelError, match=r"^a process ended without a word, .* run again$"):
        side_by_side(die, ["a", "b"])
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_no_process_and_nothing_half_written(tmp_path: Path, repository: Path, spawn, how):
    """To the whole group, as a terminal sends Ctrl-C, and to the first process alone, as `kill` does."""
    process = spawn(
        sys.executable,
        "-m",
        "tests.models.many",
        tmp_path,
        cwd=repository,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".tmp-*/half")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "stopped; what was finished is kept, run the command again to go on\n"
    wait_until_gone(family)
    assert not list(tmp_path.iterdir())
