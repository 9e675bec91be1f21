"""The task metrics against scikit-learn's, ties and missing classes included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from compare import metrics


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def test_roc_auc_equals_scikit_learn(generator):
    labels, scores = generator.integers(0, 2, 400), generator.random(400).astype(np.float32)
    assert metrics.roc_auc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)


def test_roc_auc_with_ties_equals_scikit_learn(generator):
    labels, scores = generator.integers(0, 2, 400), generator.integers(0, 5, 400) / 4
    assert metrics.roc_auc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)


def test_roc_auc_of_one_score_is_half():
    assert metrics.roc_auc(np.array([0, 1, 1]), np.full((3, 1), 0.7)) == 0.5


def test_roc_auc_without_negatives_is_refused():
    with pytest.raises(ValueError, match="needs both classes, but got 3 positive and 0 negative"):
        metrics.roc_auc(np.ones(3), np.arange(3.0))


@pytest.mark.parametrize("classes", [2, 7])
def test_macro_f1_equals_scikit_learn(generator, classes):
    labels, predictions = generator.integers(0, classes, (2, 300))
    expected = reference.f1_score(labels, predictions, average="macro")
    assert metrics.macro_f1(labels, predictions) == pytest.approx(expected, abs=1e-12)


def test_macro_f1_with_classes_on_one_side_only_equals_scikit_learn():
    labels, predictions = np.array([0, 0, 1, 3]), np.array([0, 2, 2, 3])
    expected = reference.f1_score(labels, predictions, average="macro", zero_division=0.0)
    assert metrics.macro_f1(labels, predictions) == pytest.approx(expected, abs=1e-12)


def test_accuracy_equals_scikit_learn(generator):
    labels, predictions = generator.integers(0, 3, (2, 300))
    assert metrics.accuracy(labels, predictions) == pytest.approx(reference.accuracy_score(labels, predictions))


def test_mae_of_columns_equals_scikit_learn(generator):
    labels, predictions = generator.normal(350, 10, 100).astype(np.float32), generator.normal(350, 10, (100, 1))
    assert metrics.mae(labels, predictions) == pytest.approx(reference.mean_absolute_error(labels, predictions[:, 0]))


def test_measure_takes_the_highest_class_for_argmax():
    answers = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]])
    assert metrics.measure("accuracy", "argmax", np.array([1, 0, 1]), answers) == pytest.approx(2 / 3)
