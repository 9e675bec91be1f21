"""The exported models are as good as promised: each metric is computed again from the SavedModel's own answers."""

from __future__ import annotations

import numpy as np
import pytest

from compare.metrics import mae, measure
from models.artifacts import read_json
from models.train import training_folder


@pytest.fixture(scope="module")
def answers(exports, runner):
    """{(model, version): (the SavedModel's answers, labels, inputs)} on the held-out rows."""

    def of(model: str, version: int):
        export = exports[model, version]
        case = export.evidence.case("serving_default", "test")
        return runner(export, "serving_default").run(case.inputs), case.labels, case.inputs

    return of


@pytest.fixture(scope="module")
def quality(exports, answers):
    def of(model: str, version: int) -> float:
        spec = exports[model, version].spec
        outputs, labels, _ = answers(model, version)
        return measure(spec.metric.name, spec.decision.kind, labels, outputs[spec.decision.output])

    return of


@pytest.mark.parametrize(
    ("model", "metric", "bound"),
    [("mlp", "roc_auc", 0.98), ("cnn", "accuracy", 0.97), ("transformer", "macro_f1", 0.70)],
)
def test_quality_of_version_2_reaches_its_bound(exports, quality, model, metric, bound):
    spec = exports[model, 2].spec
    assert (spec.metric.name, spec.metric.bound) == (metric, bound)
    assert quality(model, 2) >= bound


@pytest.mark.slow
def test_forecast_of_version_2_beats_the_naive_one(answers):
    outputs, labels, inputs = answers("lstm", 2)
    assert mae(labels, outputs["next_week"]) <= 0.85 * mae(labels, inputs["series"][:, -1])


@pytest.mark.parametrize(
    "model", ["cnn", "mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lstm", "transformer"))]
)
def test_version_1_is_worse_but_not_silly(exports, quality, model):
    first, second, metric = quality(model, 1), quality(model, 2), exports[model, 2].spec.metric
    if metric.higher_is_better:
        assert 0.85 * second < first < second
    else:
        assert second < first < 1.15 * second
    assert exports[model, 1].sha256 != exports[model, 2].sha256


@pytest.mark.parametrize("model", ["cnn", "lstm", "mlp", "transformer"])
def test_training_left_its_records(exports, model):
    folder = training_folder(exports[model, 2].root, model)
    training = read_json(folder / "training.json")
    assert 1 <= training["epochs"]["1"] < training["epochs"]["2"] <= training["epochs"]["run"]
    assert list((folder / "logs" / "train").glob("events.*")) or list((folder / "logs").rglob("events.*"))
    assert all(np.isfinite(value) for value in training["baselines"].values())
    if model in ("lstm", "transformer"):
        assert training["baselines"]
