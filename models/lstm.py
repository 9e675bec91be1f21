"""lstm: next week's CO₂. A Keras Functional model with its own recurrent layer, a custom loss and a custom metric.

The core sees the 52 weeks relative to the last one and answers the change, so that int8 spends its 256 levels on a few
ppm and not on 350.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from models.data import co2
from models.recurrent import UnrolledLSTM
from models.spec import Decision, Metric, ModelSpec, TensorSpec
from models.string_signatures import ExtraSignature, regress

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.training_run import TrainingRun

TRAINING_SECONDS = 25  # roughly, on one core: models are trained side by side, the longest first


@keras.saving.register_keras_serializable("export_once")
class Huber(keras.losses.Loss):
    """Squared below ``delta``, straight above: a bad reading does not pull the whole fit."""

    def __init__(self, delta: float = 1.0, **options):
        super().__init__(**options)
        self.delta = delta

    def call(self, y_true, y_pred):
        error = ops.abs(ops.cast(y_true, y_pred.dtype) - y_pred)
        inside = ops.minimum(error, self.delta)
        return 0.5 * inside * inside + self.delta * (error - inside)

    def get_config(self):
        return {**super().get_config(), "delta": self.delta}


@keras.saving.register_keras_serializable("export_once")
class MeanAbsolutePercentage(keras.metrics.Metric):
    """MAPE of the change between two weeks, in per cent of a typical change: the core's unit is one such change."""

    def __init__(self, name: str = "mape", **options):
        super().__init__(name=name, **options)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = ops.abs(ops.cast(y_true, y_pred.dtype) - y_pred)
        # A change of nearly nothing would make the quotient meaningless.
        self.total.assign_add(100 * ops.sum(error / ops.maximum(ops.abs(ops.cast(y_true, y_pred.dtype)), 1.0)))
        self.count.assign_add(ops.cast(ops.size(error), "float32"))

    def result(self):
        return self.total / ops.maximum(self.count, 1.0)


def build(spec: ModelSpec) -> keras.Model:
    """The core: 52 weeks relative to the last [N, 52, 1] → the change to the next week [N, 1], both scaled."""
    series = keras.Input((co2.WEEKS, 1), name="series")
    x = UnrolledLSTM(24, name="recurrent")(series)
    return keras.Model(series, keras.layers.Dense(1, name="next_week")(x), name="core")


def fit(core: keras.Model, run: TrainingRun) -> None:
    core.compile(keras.optimizers.Adam(5e-3), Huber(), metrics=[MeanAbsolutePercentage()])
    core.fit(
        run.train(batch=64),
        validation_data=run.validation(batch=256),
        epochs=40,
        shuffle=False,  # the pipeline has shuffled
        verbose=0,
        callbacks=run.callbacks(patience=9, learning_rate=keras.callbacks.ReduceLROnPlateau(patience=3, factor=0.5)),
    )


def baselines(data: Dataset) -> dict[str, float]:
    """MAE in ppm on the test years of "next week = this week", and of a ridge regression on the 52 lags."""
    from sklearn.linear_model import Ridge

    (train, train_next), (test, test_next) = data.rows("train"), data.rows("test")

    def relative(rows):
        return rows["series"][..., 0] - rows["series"][:, -1, :]

    ridge = Ridge(alpha=1.0).fit(relative(train), train_next - train["series"][:, -1, 0])
    forecast = ridge.predict(relative(test)) + test["series"][:, -1, 0]
    return {
        "next week = this week": float(np.abs(test_next - test["series"][:, -1, 0]).mean()),
        "ridge regression on 52 lags": float(np.abs(test_next - forecast).mean()),
    }


def extra_signatures(spec: ModelSpec) -> list[ExtraSignature]:
    return [regress(spec)]


def dataset() -> Dataset:
    return co2.dataset()


SPEC = ModelSpec(
    name="lstm",
    task="CO₂ at Mauna Loa next week, from the last 52 weeks",
    inputs=(TensorSpec("series", (None, co2.WEEKS, 1), "float32", unit="ppm"),),
    outputs=(TensorSpec("next_week", (None, 1), "float32", unit="ppm"),),
    decision=Decision("value", "next_week", unit="ppm"),
    metric=Metric("mae", higher_is_better=False, bound=0.345),  # 0.85 × the 0.406 of "next week = this week"
    build=build,
    dataset=dataset,
    fit=fit,
    baselines=baselines,
    extra_signatures=extra_signatures,
)
