"""Adding a model is adding one file: a fifth model, with two inputs and its data set in the same file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import export.__main__
import models
from export.bundle import Export, find_exports
from models import registry, train
from tests.commands import run_command

if TYPE_CHECKING:
    from pathlib import Path

FIFTH = """
import keras
import numpy as np

from models.data.dataset import Dataset, pipeline_of
from models.spec import Affine, Decision, Metric, ModelSpec, TensorSpec


def build(spec):
    left, right = keras.Input((2,), name="left"), keras.Input((1,), name="right")
    x = keras.layers.Dense(8, activation="tanh")(keras.layers.Concatenate()([left, right]))
    return keras.Model({"left": left, "right": right}, {"sum": keras.layers.Dense(1)(x)}, name="core")


def fit(core, run):
    core.compile(keras.optimizers.Adam(0.05), "mse")
    core.fit(run.train(batch=16), validation_data=run.validation(batch=64), epochs=6, verbose=0, shuffle=False,
             callbacks=run.callbacks(patience=3))


def dataset():
    generator = np.random.default_rng(0)
    left, right = generator.normal(5, 2, (240, 2)).astype("float32"), generator.normal(-3, 1, (240, 1)).astype("float32")
    label = left.sum(1) + right[:, 0]
    parts = [pipeline_of({"left": left[a:b], "right": right[a:b]}, label[a:b]) for a, b in ((0, 120), (120, 170), (170, 240))]
    return Dataset(*parts, splits="in order", affines={
        "left": Affine((5.0, 5.0), (2.0, 2.0)), "right": Affine((-3.0,), (1.0,)), "sum": Affine((7.0,), (3.0,)),
    })


SPEC = ModelSpec(
    name="fifth",
    task="A sum",
    inputs=(TensorSpec("left", (None, 2), "float32"), TensorSpec("right", (None, 1), "float32")),
    outputs=(TensorSpec("sum", (None, 1), "float32"),),
    decision=Decision("value", "sum"),
    metric=Metric("mae", higher_is_better=False),
    build=build,
    dataset=dataset,
    fit=fit,
)
"""


@pytest.fixture
def room(tmp_path, repository) -> Path:
    """A copy of the room models/ with the new file in it."""
    shutil.copytree(repository / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models" / "fifth.py").write_text(FIFTH)
    return tmp_path


@pytest.mark.slow
def test_one_file_is_enough_to_train_and_export(room, runner, monkeypatch):
    import tensorflow as tf

    # For good it would be in this process, where other tests draw random numbers.
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    monkeypatch.setattr(registry, "FOLDER", room / "models")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(room / "models")])
    root = room / "artifacts"
    try:
        for main in (train.main, export.__main__.main):
            done = run_command(main, ARTIFACTS=str(root), MODELS="fifth")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "ed 1 of 1 models" in done.stdout or "ed 2 of 2 versions" in done.stdout
    finally:
        sys.modules.pop("models.fifth", None)
        vars(models).pop("fifth", None)
    assert_exported(root, runner)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_one_file_is_enough_for_processes_of_their_own(room, repository, runner):
    shutil.copytree(repository / "export", room / "export", ignore=shutil.ignore_patterns("__pycache__"))
    (room / "compare").mkdir()
    for file in ("__init__.py", "metrics.py"):
        shutil.copy(repository / "compare" / file, room / "compare" / file)
    root = room / "artifacts"
    for module in ("models.train", "export"):
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=room,
            env={**os.environ, "ARTIFACTS": str(root), "MODELS": "fifth"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert_exported(root, runner)


def assert_exported(root: Path, runner) -> None:
    assert find_exports(root) == [Export(root, "fifth", 1), Export(root, "fifth", 2)]
    export = Export(root, "fifth", 2)
    case = export.evidence.case("serving_default", "test")
    assert case.rows == 70
    np.testing.assert_allclose(
        runner(export, "serving_default").run(case.inputs)["sum"], case.outputs["sum"], rtol=1e-5
    )
    assert np.abs(case.outputs["sum"][:, 0] - case.labels).mean() < 2
