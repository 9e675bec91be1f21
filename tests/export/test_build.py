"""The export as a step: reproducible by content, whole or not at all, and never stale."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from export.__main__ import main
from export.build import is_exported, made_from, training_of
from export.bundle import Export, find_exports
from tests.commands import run_command
from tests.conftest import wait_until_gone

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "mlp"


@pytest.fixture
def root(exports, tmp_path) -> Path:
    """A folder of artefacts in which the model is trained and not exported."""
    shutil.copytree(exports[MODEL, 2].keras_file.parent, tmp_path / "training" / MODEL)
    return tmp_path


def _start(root: Path, repository: Path, models: str = MODEL) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "export"],
        cwd=repository,
        env={**os.environ, "ARTIFACTS": str(root), "MODELS": models},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _wait_for(pattern: str, root: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not list(root.glob(pattern)):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the export never began to write"
        time.sleep(0.001)


def _kill_while_writing(root: Path, repository: Path) -> None:
    process = _start(root, repository)
    try:
        _wait_for("savedmodels/*/.tmp-*-1/*", root, process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _kill_before_it_is_whole(root: Path, repository: Path) -> None:
    """When the SavedModel is written, and what belongs beside it is not."""
    program = (
        "import os, signal\n"
        "from export import __main__, warmup\n"
        "warmup.write_warmup = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "__main__.main([])\n"
    )
    environment = {**os.environ, "ARTIFACTS": str(root), "MODELS": MODEL}
    killed = subprocess.run([sys.executable, "-c", program], cwd=repository, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kill",
    [_kill_before_it_is_whole, pytest.param(_kill_while_writing, marks=pytest.mark.exhaustive)],
    ids=["before it is whole", "at some moment"],
)
def test_interrupted_export_leaves_nothing_half_written(root, repository, exports, kill):
    for _ in range(5):  # on a busy machine a kill at some moment may come when the first version is whole already
        kill(root, repository)
        if list(root.glob("savedmodels/*/.tmp-*-1")):
            break
        for part in ("savedmodels", "evidence"):
            shutil.rmtree(root / part, ignore_errors=True)
    assert list(root.glob("savedmodels/*/.tmp-*-1"))  # it really was killed midway
    assert not find_exports(root)
    assert not (root / "savedmodels" / MODEL / "1").exists()

    again = run_command(main, ARTIFACTS=str(root), MODELS=MODEL)
    assert again.returncode == 0, again.stderr
    assert [e.version for e in find_exports(root)] == [1, 2]
    assert not list(root.rglob(".tmp-*"))
    # The tensor hash says that it is the same model, however often it is exported.
    assert [e.sha256 for e in find_exports(root)] == [exports[MODEL, v].sha256 for v in (1, 2)]


@pytest.mark.slow
@pytest.mark.ci
def test_interrupt_ends_the_export_of_every_model_and_leaves_nothing_half_written(root, repository, exports):
    shutil.copytree(exports["cnn", 2].keras_file.parent, root / "training" / "cnn")
    process = _start(root, repository, f"{MODEL},cnn")
    try:
        _wait_for("savedmodels/*/.tmp-*-1/*", root, process)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    assert output.endswith("stopped; what was finished is kept, run the command again to go on\n")
    wait_until_gone(family)
    assert not list(root.rglob(".tmp-*"))


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
