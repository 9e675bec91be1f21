"""MobileNetV2 with random weights: made once, converted as every model is, and alive: it tells its pictures apart."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from edge.runtime import LiteModel
from export.bundle import Export
from models.artifacts import REPOSITORY


def make(root):
    environment = {**os.environ, "ARTIFACTS": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", "lite.standin"], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


@pytest.mark.exhaustive  # a minute of TensorFlow
@pytest.mark.timeout(600)
def test_standin_is_made_once_and_runs_in_both_variants(tmp_path):
    done = make(tmp_path)
    assert done.returncode == 0, done.stderr
    export = Export(tmp_path / "standin", "mobilenet_v2", 1)
    float32, int8 = (LiteModel(export.lite(variant)) for variant in ("float32", "int8"))
    assert float32.description["ops"]["DEPTHWISE_CONV_2D"] == 17
    assert not int8.description["float_islands"]
    (case,) = export.evidence.cases()
    answers = float32.predict(case.inputs)["output_0"]
    np.testing.assert_allclose(answers, case.outputs["output_0"], atol=1e-3)
    assert len(set(answers.argmax(1))) > len(answers) / 2
    assert np.isfinite(int8.predict(case.inputs)["output_0"]).all()

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "standin").rglob("*") if path.is_file()}
    again = make(tmp_path)
    assert again.returncode == 0, again.stderr
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "standin").rglob("*") if path.is_file()}
