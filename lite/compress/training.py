"""One compression: the twin of the trained core, trained a little further on the training split, as a SavedModel with ``core``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

from lite.compress.methods import METHODS
from lite.compress.settings import settings_of
from lite.compress.twin import check_twin, make_twin
from models import keras_file, registry
from models.training_run import TrainingRun, quality

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras

    from export.bundle import Export
    from models.data.dataset import Dataset
    from models.spec import ModelSpec

    Say = Callable[[str], None]

LOSSES = {"threshold": "binary_crossentropy", "argmax": "sparse_categorical_crossentropy", "value": "huber"}


def compress(export: Export, method: str, folder: Path, say: Say) -> dict[str, Any]:
    """Write the SavedModel of the compressed core to ``folder``; returns what was trained, JSON-ready.

    Raises ModelError where the core has no twin, and what tensorflow-model-optimization raises where it cannot wrap it.
    """
    started = time.monotonic()
    tf.config.experimental.enable_op_determinism()
    settings, how = settings_of(export.model), METHODS[method]
    tf_keras.utils.set_random_seed(settings.seed)
    declared = registry.load(export.model)
    data = declared.dataset()  # type: ignore[misc]  # what_is_missing has seen to it
    spec = data.complete(declared)
    reference = keras_file.load(export.keras_file)
    core = reference.get_layer("core")
    twin = make_twin(core)
    run = TrainingRun(spec, data, folder, say)
    train, validation = run.train(batch=settings.batch), run.validation(batch=512)
    difference = check_twin(twin, core, next(iter(validation))[0])
    before = _quality(reference, spec, data, twin)
    wrapped = how.wrap(twin, settings, int(train.cardinality()))
    rate = settings.pruning_learning_rate if method == "pruned" else settings.learning_rate
    wrapped.compile(tf_keras.optimizers.Adam(rate), LOSSES[spec.decision.kind])  # type: ignore[union-attr]
    stop = tf_keras.callbacks.EarlyStopping(
        patience=settings.patience,
        restore_best_weights=True,
        start_from_epoch=settings.gradual_epochs if how.gradual else 0,
    )
    history = wrapped.fit(
        train,
        validation_data=validation,
        epochs=settings.epochs,
        shuffle=False,  # the pipeline has shuffled
        verbose=0,
        callbacks=[*how.callbacks(), stop, _Progress(say)],
    )
    trained = how.strip(wrapped)
    after = _quality(reference, spec, data, trained)
    _write(trained, spec, folder)
    wanted = {"pruned": {"sparsity": settings.sparsity}, "clustered": {"clusters": settings.clusters}}
    return {
        "method": method,
        "target": wanted.get(method, {}),
        "epochs": len(history.history["loss"]),
        "seed": settings.seed,
        "twin_difference": difference,
        "metric": {"name": spec.metric.name, "before": before, "after": after},  # type: ignore[union-attr]
        "seconds": round(time.monotonic() - started, 1),
    }


def _quality(reference: keras.Model, spec: ModelSpec, data: Dataset, core: tf_keras.Model) -> float:
    """The task metric on the whole test split, with ``core`` between the reference's pre- and postprocessing."""
    raw, labels = data.rows("test")
    (given,), (got,) = spec.inputs, spec.outputs
    normalised = np.asarray(reference.get_layer("preprocess")(raw)[given.name])
    answers = core.predict(normalised, batch_size=512, verbose=0)
    outputs = reference.get_layer("postprocess")({got.name: answers}, raw)
    return quality(spec, {name: np.asarray(value) for name, value in outputs.items()}, labels)


def _write(core: tf_keras.Model, spec: ModelSpec, folder: Path) -> None:
    """A SavedModel with the signature ``core``, batch 1, as the export writes it."""
    (given,), (got,) = spec.inputs, spec.outputs

    @tf.function(input_signature=[tf.TensorSpec((1, *given.shape[1:]), given.dtype, given.name)])
    def answer(x):
        return {got.name: core(x, training=False)}

    module = tf.Module()
    module.weights = core.variables  # only these: saving a Keras model would trace every layer again
    tf.saved_model.save(module, str(folder), signatures={"core": answer})


class _Progress(tf_keras.callbacks.Callback):
    """A line every two seconds or so."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say, self._said = say, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if time.monotonic() - self._said > 2:
            self._said = time.monotonic()
            self._say(f"epoch {epoch + 1}  " + "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items()))
