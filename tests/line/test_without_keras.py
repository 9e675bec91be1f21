"""Nothing downstream reads the Keras model again: conversion and publishing run where there is no training folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_tfjs_and_publishing_run_on_the_saved_model_alone(exports, repository, tmp_path):
    """As the .tflite files do, see tests/lite/test_build.py."""
    model = "mlp"
    for part in ("savedmodels", "evidence"):
        shutil.copytree(exports[model, 2].root / part / model, tmp_path / part / model)
    environment = {**os.environ, "ARTIFACTS": str(tmp_path), "MODELS": model}
    for command in ("web.convert", "serving.publish"):
        done = subprocess.run(
            [sys.executable, "-m", command], cwd=repository, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "web/mlp/2/float32/model.json").is_file()
    assert (tmp_path / "repository" / model / "2" / "saved_model.pb").is_file()
    assert not (tmp_path / "training").exists()
