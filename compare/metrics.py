"""Task metrics, in plain NumPy: roc_auc, accuracy, macro_f1, mae."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def roc_auc(labels: NDArray, scores: NDArray) -> float:
    """The area under the ROC curve: labels 0 or 1 [n], scores [n].

    The share of (positive, negative) pairs in which the positive has the higher score; a tie counts one half
    (the Mann-Whitney U statistic). Raises ValueError where one class is missing.
    """
    labels, scores = np.asarray(labels).ravel().astype(bool), np.asarray(scores).ravel()
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        raise ValueError(f"ROC-AUC needs both classes, but got {positives} positive and {negatives} negative labels")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of the ranks that they take up.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def accuracy(labels: NDArray, predictions: NDArray) -> float:
    """The share of right answers: class numbers [n] and [n]."""
    return float((np.asarray(labels).ravel() == np.asarray(predictions).ravel()).mean())


def macro_f1(labels: NDArray, predictions: NDArray) -> float:
    """The mean over classes of the F1 score: class numbers [n] and [n]. A class that is never right counts 0."""
    labels, predictions = np.asarray(labels).ravel(), np.asarray(predictions).ravel()
    scores = []
    for c in np.union1d(labels, predictions):
        right = np.sum((labels == c) & (predictions == c))
        scores.append(2 * right / (np.sum(labels == c) + np.sum(predictions == c)))
    return float(np.mean(scores))


def mae(labels: NDArray, predictions: NDArray) -> float:
    """The mean absolute error, in the unit of the labels."""
    return float(np.abs(np.asarray(labels, np.float64).ravel() - np.asarray(predictions, np.float64).ravel()).mean())


METRICS: dict[str, Callable[[NDArray, NDArray], float]] = {
    "roc_auc": roc_auc,
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "mae": mae,
}


def measure(metric: str, decision: str, labels: NDArray, output: NDArray) -> float:
    """The task metric of a model's output [n, …]: of its highest class where the decision is ``argmax``, else of the values."""
    return METRICS[metric](labels, output.argmax(-1) if decision == "argmax" else output)
