"""Nothing downstream reads the Keras model again: conversion and publishing run where there is no training folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("step", ["lite", "web.convert"])
def test_step_runs_on_the_saved_model_alone(exports, repository, tmp_path, step):
    model = "mlp"
    for part in ("savedmodels", "evidence"):
        shutil.copytree(exports[model, 2].root / part / model, tmp_path / part / model)
    environment = {**os.environ, "ARTIFACTS": str(tmp_path), "MODELS": model}
    made = {"lite": "lite/mlp/2/int8.tflite", "web.convert": "web/mlp/2/float32/model.json"}[step]
    for command in (step, "serving.publish"):
        done = subprocess.run(
            [sys.executable, "-m", command], cwd=repository, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / made).is_file()
    assert (tmp_path / "repository" / model / "2" / "saved_model.pb").is_file()
    assert not (tmp_path / "training").exists()
