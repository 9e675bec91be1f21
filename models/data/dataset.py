"""Dataset: real rows in three splits as ``tf.data`` pipelines, and what the training split says about the tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tensorflow as tf

    from models.spec import Affine, ModelSpec

Rows = dict[str, NDArray]


@dataclass(frozen=True)
class Dataset:
    """``train``, ``validation`` and ``test`` give one row each time: ``({input name: tensor in raw units}, label)``.

    ``affines`` and ``ranges`` are fitted on the training split only, by tensor name.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    splits: str  # how the rows were divided, one sentence
    affines: Mapping[str, Affine] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def rows(self, split: str, limit: int | None = None) -> tuple[Rows, NDArray]:
        """The rows of one split as arrays: ``({input name: [n, …]}, labels [n])``."""
        pipeline = getattr(self, split)
        pipeline = pipeline if limit is None else pipeline.take(limit)
        batches = list(pipeline.batch(1024).as_numpy_iterator())  # row by row takes ten times as long
        names = batches[0][0]
        inputs = {name: np.concatenate([rows[name] for rows, _ in batches]) for name in names}
        return inputs, np.concatenate([labels for _, labels in batches])

    def count(self, split: str) -> int:
        """How many rows a split has."""
        return int(getattr(self, split).reduce(0, lambda count, _: count + 1))

    def complete(self, spec: ModelSpec) -> ModelSpec:
        """``spec`` with the ranges and the normalisation that the training split gave."""

        def fill(tensors):
            return tuple(
                replace(t, affine=self.affines.get(t.name, t.affine), range=self.ranges.get(t.name, t.range))
                for t in tensors
            )

        return replace(spec, inputs=fill(spec.inputs), outputs=fill(spec.outputs))


def pipeline_of(inputs: Rows, labels: NDArray) -> tf.data.Dataset:
    """A pipeline over arrays in memory."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((inputs, labels))


def shuffled_splits(count: int, *, validation: float, test: float, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Row numbers of train, validation and test, drawn without overlap."""
    order = np.random.default_rng(seed).permutation(count)
    first, second = round(count * test), round(count * (test + validation))
    return order[second:], order[first:second], order[:first]
