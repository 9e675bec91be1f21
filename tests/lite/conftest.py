"""Roots to build in: a copy of one exported model, and models such as a user may bring."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.artifacts import REPOSITORY
from tests.lite.building import run_lite

if TYPE_CHECKING:
    from export.bundle import Export

USER_MODELS = Path(__file__).with_name("user_models.py")


@pytest.fixture
def mlp_root(tmp_path: Path, exports: dict[tuple[str, int], Export]) -> Path:
    """SavedModel and evidence of version 2 of ``mlp``, and nothing else: no Keras file, no training folder."""
    export = exports["mlp", 2]
    shutil.copytree(export.saved_model, tmp_path / "savedmodels" / "mlp" / "2")
    (tmp_path / "evidence" / "mlp").mkdir(parents=True)
    for suffix in (".json", ".npz"):
        shutil.copy(export.evidence_json.with_suffix(suffix), tmp_path / "evidence" / "mlp")
    return tmp_path


@pytest.fixture(scope="session")
def user_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's SavedModels, converted: ``two`` (float and int inputs, two outputs), ``fixed`` (batch 4), ``text`` and ``word`` (strings)."""
    root = tmp_path_factory.mktemp("user")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run(
        [sys.executable, USER_MODELS, root], cwd=REPOSITORY, env=environment, check=True, capture_output=True
    )
    done = run_lite(root)
    assert done.returncode == 0, done.stderr
    return root
