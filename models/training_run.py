"""One training: pipelines in the core's units, the callbacks, two versions kept, quality on held-out data."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from compare import metrics
from models.deployed import Postprocess, Preprocess, as_data, deploy
from models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from models.data.dataset import Dataset
    from models.spec import ModelSpec

SEED = 20
# Version 1 is the first epoch that has gone this part of the way from the first validation loss to the best one.
VERSION_1_PROGRESS = 0.5


class TrainingRun:
    """What ``fit(core, run)`` of a model gets: batches in the core's units and the callbacks that keep the versions."""

    def __init__(self, spec: ModelSpec, data: Dataset, folder: Path, say: Callable[[str], None]):
        self.spec, self.data, self.folder, self.say = spec, data, folder, say
        self.checkpoints = Checkpoints(folder / "checkpoints", say)

    def train(self, *, batch: int) -> tf.data.Dataset:
        """Shuffled batches ``(inputs, labels)``; one tensor instead of the dictionary where the core has one input."""
        rows = self.data.train.cache()
        count = int(rows.reduce(0, lambda n, _: n + 1))
        batches = rows.shuffle(count, seed=SEED).batch(batch).map(self._to_core)
        return batches.apply(tf.data.experimental.assert_cardinality(-(-count // batch))).prefetch(2)

    def validation(self, *, batch: int) -> tf.data.Dataset:
        return self.data.validation.batch(batch).map(self._to_core).cache()

    def callbacks(
        self, *, patience: int, learning_rate: keras.callbacks.Callback | None = None
    ) -> list[keras.callbacks.Callback]:
        """Checkpoints, TensorBoard, early stopping and, where given, what lowers the learning rate."""
        return [
            self.checkpoints,
            keras.callbacks.TensorBoard(str(self.folder / "logs"), write_graph=False),
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience, restore_best_weights=True),
            *([learning_rate] if learning_rate else []),
        ]

    def _to_core(self, raw: Mapping[str, tf.Tensor], labels: tf.Tensor):
        inputs, output = self.spec.inputs, self.spec.outputs[0]
        normalised = Preprocess({t.name: as_data(t.affine) for t in inputs})(raw)
        if output.affine:
            # The inverse of the postprocessing: where it sends zero is its reference.
            labels = tf.reshape(labels, (-1, 1))
            reference = Postprocess({"label": as_data(output.affine)})({"label": tf.zeros_like(labels)}, raw)["label"]
            labels = (labels - reference) / tf.constant(output.affine.scale, labels.dtype)
        return (normalised[inputs[0].name] if len(inputs) == 1 else normalised), labels


class Checkpoints(keras.callbacks.Callback):
    """Every epoch's weights on disk, and a line of progress every two seconds or so."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        super().__init__()
        self.folder, self.say = folder, say
        self.losses: list[float] = []
        self._said = 0.0

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.save_weights(self.folder / f"{epoch}.weights.h5")
        self.losses.append(float(logs["val_loss"]))
        if time.monotonic() - self._said > 2:
            self._said = time.monotonic()
            values = "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if not isinstance(value, str))
            self.say(f"epoch {epoch + 1}  {values}")

    def best(self) -> int:
        return int(np.argmin(self.losses))

    def earlier(self) -> int:
        """The epoch of version 1: worse than the best, but well past the first guesses."""
        first, best = self.losses[0], min(self.losses)
        if self.best() == 0:
            raise ModelError("the first epoch was the best, so there is no earlier version; train in smaller steps")
        enough = first - VERSION_1_PROGRESS * (first - best)
        return next((e for e, loss in enumerate(self.losses[: self.best()]) if loss <= enough), self.best() - 1)

    def read(self, core: keras.Model, epoch: int) -> None:
        core.load_weights(self.folder / f"{epoch}.weights.h5")


def answer(model: keras.Model, inputs: Mapping[str, NDArray], batch: int = 256) -> dict[str, NDArray]:
    """Run the model over rows, batch after batch."""
    count = len(next(iter(inputs.values())))
    parts = [
        {name: np.asarray(value) for name, value in model({k: v[i : i + batch] for k, v in inputs.items()}).items()}
        for i in range(0, count, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def quality(spec: ModelSpec, outputs: Mapping[str, NDArray], labels: NDArray) -> float:
    """The task metric of answers in raw units."""
    if spec.metric is None or spec.decision is None:
        raise ModelError(f"{spec.name} has no metric and decision; state both in its SPEC")
    return metrics.measure(spec.metric.name, spec.decision.kind, labels, outputs[spec.decision.output])


def train_model(spec: ModelSpec, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train one model into ``folder``: ``1.keras``, ``2.keras``, ``logs/``. Returns the description for training.json."""
    if not (spec.build and spec.dataset and spec.fit):
        raise ModelError(f"models/{spec.name}.py lacks build, dataset or fit in its SPEC; add them to train it")
    started = time.monotonic()
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    data = spec.dataset()
    completed = data.complete(spec)
    core = spec.build(completed)
    with tempfile.TemporaryDirectory() as scratch:
        run = TrainingRun(completed, data, Path(scratch), say)
        spec.fit(core, run)
        test, labels = data.rows("test")
        epochs = {"1": run.checkpoints.earlier(), "2": run.checkpoints.best()}
        found = {}
        for version, epoch in epochs.items():
            run.checkpoints.read(core, epoch)
            model = deploy(core, completed)
            model.save(folder / f"{version}.keras")
            found[version] = quality(completed, answer(model, test), labels)
        shutil.copytree(Path(scratch) / "logs", folder / "logs")
    return {
        "schema": 1,
        "spec": completed.to_json(),
        "metric": {"name": spec.metric.name if spec.metric else "", **found},
        "baselines": spec.baselines(data) if spec.baselines else {},
        "epochs": {"run": len(run.checkpoints.losses), **{v: e + 1 for v, e in epochs.items()}},
        "rows": {split: data.count(split) for split in ("train", "validation", "test")},
        "splits": data.splits,
        "seed": SEED,
        "seconds": round(time.monotonic() - started, 1),
    }
