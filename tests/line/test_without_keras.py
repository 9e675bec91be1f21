"""Nothing downstream reads the Keras model again: conversion and publishing run where there is no training folder."""

from __future__ import annotations

import shutil

import pytest

from serving import publish
from tests.commands import run_command
from web import convert


@pytest.mark.slow
def test_tfjs_and_publishing_run_on_the_saved_model_alone(exports, tmp_path):
    """As the .tflite files do, see tests/lite/test_build.py."""
    export = exports["mlp", 2]
    shutil.copytree(export.saved_model, tmp_path / "savedmodels" / "mlp" / "2")
    (tmp_path / "evidence" / "mlp").mkdir(parents=True)
    for path in (export.evidence_json, export.evidence_json.with_suffix(".npz")):
        shutil.copy(path, tmp_path / "evidence" / "mlp")
    for main in (convert.main, publish.main):
        done = run_command(main, ARTIFACTS=str(tmp_path), MODELS="mlp")
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "web/mlp/2/float32/model.json").is_file()
    assert (tmp_path / "repository/mlp/2/saved_model.pb").is_file()
    assert not (tmp_path / "training").exists()
