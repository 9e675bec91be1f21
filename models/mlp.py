"""mlp: is a biopsy benign? A Keras Sequential model; the smallest example of normalisation kept outside the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from models.data import breast_cancer
from models.spec import Decision, Metric, ModelSpec, TensorSpec
from models.string_signatures import ExtraSignature, classify

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.training_run import TrainingRun


def build(spec: ModelSpec) -> keras.Model:
    """The core: normalised features [N, 30] → probability of "benign" [N, 1]."""
    return keras.Sequential(
        [
            keras.Input((30,), name="features"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ],
        name="core",
    )


def fit(core: keras.Model, run: TrainingRun) -> None:
    core.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", metrics=["accuracy"])
    core.fit(
        run.train(batch=32),
        validation_data=run.validation(batch=128),
        epochs=60,
        shuffle=False,  # the pipeline has shuffled
        verbose=0,
        callbacks=run.callbacks(patience=8, learning_rate=keras.callbacks.ReduceLROnPlateau(patience=4, factor=0.5)),
    )


def extra_signatures(spec: ModelSpec) -> list[ExtraSignature]:
    return [classify(spec)]


def dataset() -> Dataset:
    return breast_cancer.dataset()


SPEC = ModelSpec(
    name="mlp",
    task="Is a biopsy benign? 30 measurements of cell nuclei",
    inputs=(TensorSpec("features", (None, 30), "float32", columns=breast_cancer.COLUMNS),),
    outputs=(TensorSpec("probability", (None, 1), "float32", unit="probability of benign"),),
    decision=Decision("threshold", "probability", labels=breast_cancer.LABELS),
    metric=Metric("roc_auc", higher_is_better=True, bound=0.98),
    build=build,
    dataset=dataset,
    fit=fit,
    extra_signatures=extra_signatures,
)
