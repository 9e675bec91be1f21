"""An artefacts folder that cannot be written: one sentence with the remedy, and nothing half-written stays."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from models.artifacts import artifacts_root

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


def train(folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "ARTIFACTS": str(folder), "MODELS": "mlp"}
    return subprocess.run(
        [sys.executable, "-m", "models.train"], env=environment, capture_output=True, text=True, timeout=200
    )


def assert_one_sentence(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    for word in words:
        assert word in error


def test_read_only_folder_is_one_sentence(mounted):
    assert_one_sentence(train(mounted("ro")), "ARTIFACTS")


@pytest.mark.slow
def test_full_folder_is_one_sentence_and_leaves_nothing(mounted):
    folder = mounted("size=24k")
    assert_one_sentence(train(folder), "space")
    assert not [path for path in folder.rglob("*") if path.name.startswith(".tmp-") or path.suffix == ".keras"]


def test_folder_that_is_a_file_is_one_sentence(tmp_path):
    file = tmp_path / "artifacts"
    file.write_text("")
    done = train(file)
    assert_one_sentence(done, "ARTIFACTS")


def test_default_folder_lies_in_the_repository(monkeypatch, repository):
    monkeypatch.delenv("ARTIFACTS", raising=False)
    assert artifacts_root() == repository / "artifacts"
