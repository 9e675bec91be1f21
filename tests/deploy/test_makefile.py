"""The Makefile's own words for a user's mistake; what its rules start is tested where it lies."""

from __future__ import annotations

import os
import subprocess

import pytest

from models.artifacts import REPOSITORY


def test_push_without_a_host_is_one_sentence():
    done = subprocess.run(
        ["make", "edge-push"], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: which device? write for example: make edge-push HOST=pi@raspberrypi.local\n")


@pytest.mark.parametrize("goal", ["versions", "promote", "rollback"])
def test_goal_for_a_model_without_its_name_is_one_sentence(goal):
    done = subprocess.run(["make", goal], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: which model? write for example: make {goal} MODEL=mlp\n")


def test_import_without_a_file_is_one_sentence():
    done = subprocess.run(["make", "compare-import"], cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith("error: which file? write for example: make compare-import FILE=bench.json\n")


@pytest.mark.parametrize("bound", ["abc", "-5", "1.2.3", "0"])
def test_search_with_a_bound_that_is_none_is_one_sentence_before_anything_is_built(bound):
    done = subprocess.run(
        ["make", "loadtest-search", f"P99={bound}"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: P99={bound} is no number of ms above 0; write for example: make")


def test_bytecode_is_written_whatever_the_environment_says():
    """Without it each process compiles TensorFlow's sources again, which takes twice as long as importing it."""
    done = subprocess.run(
        ["make", "-s", "--eval", 'show: ; @echo "[$$PYTHONDONTWRITEBYTECODE]"', "show"],
        cwd=REPOSITORY, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "[]\n"
