"""Four SavedModels with a ``serving_default`` only, and their evidence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from export.evidence import store

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Two(tf.Module):
    """Negation and a boolean made a number on purpose: TFLite has int8 kernels for neither."""

    def __init__(self):
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="a"), tf.TensorSpec((None, 2), tf.int32, name="b")])
    def __call__(self, a, b):
        keep = tf.cast(tf.reduce_sum(b, 1, keepdims=True) > 0, tf.float32)
        return {"u": tf.negative(tf.matmul(a, self.weights)) * keep, "v": tf.reduce_sum(b, 1) * 2}


class Fixed(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec((4, 4), name="a")])
    def __call__(self, a):
        return {"u": tf.nn.relu(tf.matmul(a, self.weights))}


class Text(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def __call__(self, text):
        return {"n": tf.cast(tf.strings.unicode_decode(text, "UTF-8").row_lengths(), tf.float32)}


class Word(tf.Module):
    """Strings in operators that TFLite has."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="word"), tf.TensorSpec((None, 4), name="a")])
    def __call__(self, word, a):
        return {"same": tf.cast(tf.equal(word, "ab"), tf.float32), "twice": 2.0 * a}


def tensor(name: str, values: np.ndarray, batch: int | None) -> dict:
    dtype = "string" if values.dtype == object else values.dtype.name
    return {"name": name, "shape": [batch, *values.shape[1:]], "dtype": dtype}


def write(root: Path, name: str, module: tf.Module, inputs: dict[str, np.ndarray], batch: int | None = None) -> None:
    function = module.__call__.get_concrete_function()
    tf.saved_model.save(module, str(root / "savedmodels" / name / "1"), signatures={"serving_default": function})
    rows = len(next(iter(inputs.values())))
    size = batch or rows
    parts = [
        module(*(tf.constant(values[start : start + size]) for values in inputs.values()))
        for start in range(0, rows, size)
    ]
    outputs = {key: np.concatenate([part[key].numpy() for part in parts]) for key in parts[0]}
    arrays: dict[str, np.ndarray] = {}
    for side, tensors in (("in", inputs), ("out", outputs)):
        for key, values in tensors.items():
            store(arrays, f"serving_default/random/{side}/{key}", values)
    folder = root / "evidence" / name
    folder.mkdir(parents=True)
    np.savez(folder / "1.npz", allow_pickle=False, **arrays)  # type: ignore[arg-type]
    spec = {
        "name": name,
        "task": "a user's model",
        "inputs": [tensor(key, values, batch) for key, values in inputs.items()],
        "outputs": [tensor(key, values, batch) for key, values in outputs.items()],
    }
    (folder / "1.json").write_text(
        json.dumps({"schema": 1, "spec": spec, "version": 1, "sha256": name, "signatures": ["serving_default"]})
    )


def write_user_models(root: Path) -> None:
    generator = np.random.default_rng(1)
    a = generator.normal(size=(16, 4)).astype(np.float32)
    b = generator.integers(-1, 2, (16, 2)).astype(np.int32)
    write(root, "two", Two(), {"a": a, "b": b})
    write(root, "fixed", Fixed(), {"a": a}, batch=4)
    words = np.array([b"ab", "ü".encode()], object)
    write(root, "text", Text(), {"text": words})
    write(root, "word", Word(), {"word": words, "a": a[:2]})
