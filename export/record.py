"""Record the evidence of one version: real, boundary and random inputs with the answers of the Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from export.evidence import store
from export.inputs import boundary_rows, bounds_of, random_rows
from models.deployed import raw_input_of, run_core
from models.string_signatures import ExtraSignature, strings
from models.training_run import answer

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from models.data.dataset import Dataset, Rows
    from models.spec import ModelSpec

TEST_ROWS, CALIBRATION_ROWS, TRAINING_ROWS = 1000, 500, 20_000


def record(model: keras.Model, spec: ModelSpec, data: Dataset, extras: list[ExtraSignature]) -> dict[str, NDArray]:
    """The arrays of the evidence file, as export/evidence.py names them.

    Answers come from the Keras model for every signature; ``core`` is recorded in its own, normalised units, with a block
    ``core/calibration/in`` of training rows for quantization. Labels stay in raw units.
    """
    train, _ = data.rows("train", TRAINING_ROWS)
    test, labels = data.rows("test", TEST_ROWS)
    bounds = bounds_of(train)
    cases = {"test": test, "boundary": boundary_rows(spec, bounds), "random": random_rows(spec, bounds, train)}
    arrays: dict[str, NDArray] = {}
    for kind, rows in cases.items():
        _put(arrays, "serving_default", kind, rows, answer(model, rows))
        normalised = _preprocess(model, rows)
        _put(arrays, "core", kind, normalised, _core(model, spec, normalised))
        _put_processing(arrays, model, spec, kind, rows, normalised)
        for extra in extras:
            texts = extra.encode(rows)
            if kind == "boundary":
                texts = np.concatenate([texts, strings(list(extra.boundary))])
            answers = extra.function(lambda raw: model(raw, training=False), tf.constant(texts.tolist()))
            _put(arrays, extra.name, kind, {extra.input: texts}, {k: v.numpy() for k, v in answers.items()})
    for signature in ("serving_default", "core", *(extra.name for extra in extras)):
        arrays[f"{signature}/test/label"] = labels
    chosen = np.random.default_rng(0).permutation(len(next(iter(train.values()))))[:CALIBRATION_ROWS]
    for name, values in _preprocess(model, {k: v[chosen] for k, v in train.items()}).items():
        store(arrays, f"core/calibration/in/{name}", values)
    return arrays


def _put(arrays: dict[str, NDArray], signature: str, kind: str, inputs: Rows, outputs: Rows) -> None:
    for side, tensors in (("in", inputs), ("out", outputs)):
        for name, values in tensors.items():
            store(arrays, f"{signature}/{kind}/{side}/{name}", values)


def _put_processing(
    arrays: dict[str, NDArray], model: keras.Model, spec: ModelSpec, kind: str, rows: Rows, normalised: Rows
) -> None:
    _put(arrays, "preprocess", kind, rows, normalised)
    needed = {name for t in spec.outputs if (name := raw_input_of(t.affine))}
    outputs, raw = _core(model, spec, normalised), {name: rows[name] for name in needed}
    after = model.get_layer("postprocess")(outputs, raw)
    _put(arrays, "postprocess", kind, {**outputs, **raw}, {k: np.asarray(v) for k, v in after.items()})


def _preprocess(model: keras.Model, rows: Rows) -> Rows:
    return {name: np.asarray(value) for name, value in model.get_layer("preprocess")(rows).items()}


def _core(model: keras.Model, spec: ModelSpec, normalised: Rows) -> Rows:
    answers = run_core(model.get_layer("core"), spec, normalised)
    return {name: np.asarray(value) for name, value in answers.items()}
