"""``python -m models.train``: what an interruption leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import wait_until_gone


@pytest.mark.slow
def test_interrupt_ends_the_training_of_every_model_and_leaves_nothing_half_written(tmp_path, repository, spawn):
    """Its processes have begun to write, and are loading TensorFlow."""
    process = spawn(
        sys.executable,
        "-m",
        "models.train",
        cwd=repository,
        env={**os.environ, "ARTIFACTS": str(tmp_path), "MODELS": "mlp,cnn"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("training/.tmp-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "stopped; what was finished is kept, run the command again to go on\n"
    wait_until_gone(family)
    assert not list((tmp_path / "training").iterdir())
