"""cnn: which digit is it? A Keras Functional model with a residual branch and BatchNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from models.data import digits
from models.spec import Decision, Metric, ModelSpec, TensorSpec

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.training_run import TrainingRun

TRAINING_SECONDS = 12  # roughly, on one core: models are trained side by side, the longest first


def build(spec: ModelSpec) -> keras.Model:
    """The core: normalised image [N, 8, 8, 1] → probabilities [N, 10]."""

    def convolution(x, *, relu: bool = True):
        x = layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same", use_bias=False)(x))
        return layers.Activation("relu")(x) if relu else x

    image = keras.Input((8, 8, 1), name="image")
    x = convolution(image)
    branch = convolution(convolution(x), relu=False)
    x = layers.Activation("relu")(layers.Add()([x, branch]))
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Dropout(0.3)(layers.Dense(48, activation="relu")(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x), name="core")


def fit(core: keras.Model, run: TrainingRun) -> None:
    core.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    core.fit(
        run.train(batch=32),
        validation_data=run.validation(batch=256),
        epochs=25,
        shuffle=False,  # the pipeline has shuffled
        verbose=0,
        callbacks=run.callbacks(patience=6, learning_rate=keras.callbacks.ReduceLROnPlateau(patience=2, factor=0.4)),
    )


def dataset() -> Dataset:
    return digits.dataset()


SPEC = ModelSpec(
    name="cnn",
    task="Which digit is it? A handwritten image of 8×8 pixels",
    inputs=(TensorSpec("image", (None, 8, 8, 1), "float32", unit="grey level, 0 to 16"),),
    outputs=(TensorSpec("probabilities", (None, 10), "float32", unit="probability of each digit"),),
    decision=Decision("argmax", "probabilities", labels=tuple("0123456789")),
    metric=Metric("accuracy", higher_is_better=True, bound=0.97),
    build=build,
    dataset=dataset,
    fit=fit,
)
