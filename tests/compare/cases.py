"""Real arithmetic to judge: a linear model on digits-like rows, its evidence, and ways to break its answers."""

from __future__ import annotations

import numpy as np

from export.evidence import Case
from models.spec import Decision, Metric, ModelSpec, TensorSpec

ROWS, FEATURES, CLASSES = 200, 6, 4

SPEC = ModelSpec(
    name="linear",
    task="which of four corners a point is in",
    inputs=(TensorSpec("point", (None, FEATURES), "float32"),),
    outputs=(TensorSpec("probabilities", (None, CLASSES), "float32"),),
    decision=Decision("argmax", "probabilities", labels=("a", "b", "c", "d")),
    metric=Metric("accuracy", higher_is_better=True),
)

REGRESSION = ModelSpec(
    name="slope",
    task="a sum with weights",
    inputs=(TensorSpec("point", (None, FEATURES), "float32"),),
    outputs=(TensorSpec("value", (None, 1), "float32"),),
    decision=Decision("value", "value", unit="ppm"),
    metric=Metric("mae", higher_is_better=False),
)

_generator = np.random.default_rng(7)
WEIGHTS = _generator.normal(size=(FEATURES, CLASSES)).astype(np.float32)
POINTS = _generator.normal(size=(ROWS, FEATURES)).astype(np.float32)


def probabilities(points: np.ndarray, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    scores = 2 * points @ weights
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def predict(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"probabilities": probabilities(inputs["point"])}


def predict_value(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"value": (400 + inputs["point"] @ WEIGHTS[:, :1]).astype(np.float32)}


def rounded_weights(bits: int) -> np.ndarray:
    """WEIGHTS as an honest symmetric quantization keeps them."""
    scale = np.abs(WEIGHTS).max() / (2 ** (bits - 1) - 1)
    return (np.round(WEIGHTS / scale) * scale).astype(np.float32)


def evidence() -> list[Case]:
    truth = probabilities(POINTS + _generator.normal(scale=0.05, size=POINTS.shape).astype(np.float32))
    edge = np.concatenate([np.zeros((2, FEATURES), np.float32), np.full((3, FEATURES), 3, np.float32)])
    return [
        Case("test", {"point": POINTS}, predict({"point": POINTS}), truth.argmax(axis=1)),
        Case("boundary", {"point": edge}, predict({"point": edge})),
    ]


def regression_evidence() -> list[Case]:
    outputs = predict_value({"point": POINTS})
    noise = _generator.normal(scale=0.5, size=(ROWS, 1)).astype(np.float32)
    return [Case("test", {"point": POINTS}, outputs, outputs["value"] + noise)]
