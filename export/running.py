"""Run the signatures of a SavedModel with TensorFlow, row count and fixed batches taken care of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

Rows = dict[str, NDArray]


class LoadedModel:
    """A SavedModel. ``named`` is the path that errors name: the user's own, not our copy of it. Raises ModelError."""

    def __init__(self, folder: Path, named: Path | None = None):
        self.named = named or folder
        try:
            self._model = tf.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises many kinds for a damaged SavedModel
            raise ModelError(
                f"TensorFlow cannot load {self.named} ({first_line(error)}); export the model again"
            ) from error

    def signature(self, name: str) -> Runner:
        return Runner(self.named, self._model.signatures[name])


class Runner:
    """One signature of a loaded model."""

    def __init__(self, named: Path, function: Any):
        self.named, self._function = named, function
        _, specs = self._function.structured_input_signature
        batches = {spec.shape[0] for spec in specs.values() if spec.shape.rank} - {None}
        self._batch = next(iter(batches)) if len(batches) == 1 else None

    def run(self, rows: Rows) -> Rows:
        """{input: [n, …]} → {output: [n, …]}; n a multiple of the batch where that is fixed. Raises ModelError."""
        count = len(next(iter(rows.values())))
        step = self._batch or count
        parts = [self._once({name: v[i : i + step] for name, v in rows.items()}) for i in range(0, count, step)]
        outputs = {}
        for name in parts[0]:
            values = [part[name] for part in parts]
            outputs[name] = np.concatenate(values) if values[0].ndim else np.stack(values)
            if len(outputs[name]) != count:
                raise ModelError(
                    f"output {name!r} of {self.named} has {len(outputs[name])} rows for {count} inputs; only models that answer row by row can be compared"
                )
        return outputs

    def _once(self, rows: Rows) -> Rows:
        try:
            answers = self._function(
                **{k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in rows.items()}
            )
        except Exception as error:  # the graph's own errors, of many kinds
            shapes = {name: list(v.shape) for name, v in rows.items()}
            raise ModelError(
                f"{self.named} refuses inputs of the shapes {shapes} ({first_line(error)}); give INPUTS=file.npz with rows that it takes"
            ) from error
        return {name: value.numpy() for name, value in answers.items()}


_NOISE = ("Graph execution error", "Detected at node", "File ", "<stack", "[[", "Stack trace")


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says what was wrong, without TensorFlow's node names."""
    lines = (line.strip() for line in str(error).splitlines())
    telling = (line for line in lines if line and not line.startswith(_NOISE))
    return next((line.split(" [[")[0].rstrip(".:") for line in telling), type(error).__name__)
