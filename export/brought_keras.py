"""A user's ``.keras`` file: exported like ours, with one free and one static signature, and kept as the reference."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from export.running import first_line
from models.artifacts import write_whole
from models.errors import ModelError
from models.keras_file import load

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from export.bundle import Export


def export_keras(path: Path, export: Export) -> None:
    """Write ``<root>/savedmodels/<name>/1`` from a Keras file, and keep a copy of the file. Raises ModelError."""
    model = load(path)
    inputs = inputs_of(model, path)
    archive = keras.export.ExportArchive()
    archive.track(model)
    try:
        for signature, batch in (("serving_default", None), ("static", 1)):
            specs = [tf.TensorSpec((batch, *shape), dtype, name) for name, shape, dtype in inputs]
            function = tf.function(
                lambda *values: named_outputs(call(model, values)), input_signature=specs, autograph=False
            )
            archive.add_endpoint(signature, function)
        with write_whole(export.saved_model) as folder:
            archive.write_out(str(folder), verbose=False)
    except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
        raise ModelError(
            f"{path} cannot be exported ({first_line(error)}); export it yourself and give the SavedModel"
        ) from error
    with write_whole(export.keras_file) as copy:
        shutil.copyfile(path, copy)


def run_keras(export: Export, rows: dict[str, NDArray], outputs: list[str]) -> dict[str, NDArray]:
    """The Keras model's own answers, under the signature's names."""
    model = load(export.keras_file)
    values = [
        tf.constant(rows[name].tolist() if rows[name].dtype == object else rows[name])
        for name, *_ in inputs_of(model, export.keras_file)
    ]
    answers = named_outputs(call(model, values))
    return {name: np.asarray(answers[name]) for name in outputs}


def call(model: keras.Model, values):
    """Call a model with the tensors of its inputs, in the structure that it was built with."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        return model(values[0], training=False)
    return model(keras.tree.pack_sequence_as(structure, list(values)), training=False)


def named_outputs(answers) -> dict:
    """A dictionary keeps its names; anything else becomes output_0, output_1, …, as ``model.export()`` names them."""
    if isinstance(answers, dict) and all(not isinstance(value, (dict, list, tuple)) for value in answers.values()):
        return answers
    return {f"output_{i}": value for i, value in enumerate(keras.tree.flatten(answers))}


def inputs_of(model: keras.Model, path: Path) -> list[tuple[str, tuple[int | None, ...], str]]:
    """Name, shape without batch, and dtype of each input, in the order in which Keras flattens them."""
    if not getattr(model, "inputs", None):
        raise ModelError(
            f"{path} holds a model that was never built, so its inputs are unknown; call it once before model.save()"
        )
    found = []
    for number, tensor in enumerate(model.inputs):
        # An Input without a name is called keras_tensor_<a number that depends on what was built before>.
        name = tensor.name if tensor.name and not tensor.name.startswith("keras_tensor") else f"input_{number}"
        found.append((name, tuple(tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype)))
    return found
