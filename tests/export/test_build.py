"""The export as a step: reproducible by content, whole or not at all, and never stale."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from export.build import is_exported, made_from, training_of
from export.bundle import Export, find_exports

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "mlp"


@pytest.fixture
def root(exports, tmp_path) -> Path:
    """A folder of artefacts in which the model is trained and not exported."""
    shutil.copytree(exports[MODEL, 2].keras_file.parent, tmp_path / "training" / MODEL)
    return tmp_path


def _start(root: Path, repository: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "export"],
        cwd=repository,
        env={**os.environ, "ARTIFACTS": str(root), "MODELS": MODEL},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _kill_while_writing(root: Path, repository: Path) -> None:
    process = _start(root, repository)
    try:
        deadline = time.monotonic() + 240
        while not list(root.glob("savedmodels/*/.tmp-*-1/*")):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "the export never began to write"
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_interrupted_export_leaves_nothing_half_written(root, repository, exports):
    for _ in range(5):  # on a busy machine the kill may come when the first version is whole already
        _kill_while_writing(root, repository)
        if list(root.glob("savedmodels/*/.tmp-*-1")):
            break
        for part in ("savedmodels", "evidence"):
            shutil.rmtree(root / part, ignore_errors=True)
    assert list(root.glob("savedmodels/*/.tmp-*-1"))  # it really was killed midway
    assert not find_exports(root)
    assert not (root / "savedmodels" / MODEL / "1").exists()

    again = _start(root, repository)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert [e.version for e in find_exports(root)] == [1, 2]
    assert not list(root.rglob(".tmp-*"))
    # The tensor hash says that it is the same model, however often it is exported.
    assert [e.sha256 for e in find_exports(root)] == [exports[MODEL, v].sha256 for v in (1, 2)]


def test_export_is_out_of_date_when_training_or_files_have_changed(root, exports):
    for part in ("savedmodels", "evidence"):
        shutil.copytree(exports[MODEL, 2].root / part / MODEL, root / part / MODEL)
    export = Export(root, MODEL, 2)
    training = training_of(export)
    assert is_exported(export, made_from(export, training))
    assert not is_exported(export, made_from(export, {**training, "made_from": "another training"}))
    (export.saved_model / "saved_model.pb").unlink()
    assert not is_exported(export, made_from(export, training))


def test_tensor_hash_tells_weights_apart_and_nothing_else(tmp_path):
    import keras

    from export.inspection import tensor_hash

    layers = [keras.layers.Dense(2), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    keras.Sequential([keras.Input((3,), name="x"), *layers]).save(tmp_path / "model.keras")
    # Read from its file each time, as the export does; the Dropout's random state is another one each time.
    for name in ("a", "b"):
        model = keras.models.load_model(tmp_path / "model.keras")
        model.export(str(tmp_path / name), verbose=False)
    assert tensor_hash(tmp_path / "a") == tensor_hash(tmp_path / "b")
    kernel = model.weights[0]
    kernel.assign(np.nextafter(kernel.numpy(), np.float32(9)))
    model.export(str(tmp_path / "c"), verbose=False)
    assert tensor_hash(tmp_path / "c") != tensor_hash(tmp_path / "a")


@pytest.mark.parametrize("model", ["cnn", "lstm", "mlp", "transformer"])
def test_warmup_requests_replay(exports, runner, model):
    import tensorflow as tf

    from export.warmup import read_warmup

    export = exports[model, 2]
    requests = [log.predict_log.request for log in read_warmup(export.saved_model)]
    batches = set()
    for request in requests:
        assert request.model_spec.name == model
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        answers = runner(export, request.model_spec.signature_name).run(inputs)
        assert all(np.isfinite(values).all() for values in answers.values())
        batches.add(len(next(iter(answers.values()))))
    assert 1 in batches
    assert max(batches) > 1
