"""An artefacts folder that cannot be written: one sentence with the remedy, and nothing half-written stays."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models import registry, train
from models.artifacts import artifacts_root
from tests.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator:
    """A file system of a few kilobytes, or one that is read-only."""
    folder = tmp_path / "artifacts"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting needs root: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True)


def trained(folder: Path) -> subprocess.CompletedProcess[str]:
    return run_command(train.main, ARTIFACTS=str(folder), MODELS="mlp")


def assert_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    for word in words:
        assert word in error


def test_read_only_folder_is_one_sentence(mounted):
    assert_one_sentence(trained(mounted("ro")), "ARTIFACTS")


@pytest.fixture
def trains_shortly(monkeypatch):
    """The mlp for three epochs; without TensorFlow's determinism, which would stay on in this process."""
    from models import mlp
    from models.training_run import train_model

    def fit(core, run):
        core.compile("adam", "binary_crossentropy")
        batches = {"x": run.train(batch=64), "validation_data": run.validation(batch=128)}
        core.fit(**batches, epochs=3, shuffle=False, verbose=0, callbacks=run.callbacks(patience=3))

    monkeypatch.setattr(train, "_load_training", lambda: train_model)
    monkeypatch.setattr(registry, "load", lambda name: replace(mlp.SPEC, fit=fit))


@pytest.mark.slow
@pytest.mark.usefixtures("trains_shortly")
def test_full_folder_is_one_sentence_and_leaves_nothing(mounted):
    folder = mounted("size=24k")
    assert_one_sentence(trained(folder), "space")
    assert not [path for path in folder.rglob("*") if path.name.startswith(".tmp-") or path.suffix == ".keras"]


def test_folder_that_is_a_file_is_one_sentence(tmp_path):
    file = tmp_path / "artifacts"
    file.write_text("")
    done = trained(file)
    assert_one_sentence(done, "ARTIFACTS")


def test_default_folder_lies_in_the_repository(monkeypatch, repository):
    monkeypatch.delenv("ARTIFACTS", raising=False)
    assert artifacts_root() == repository / "artifacts"
