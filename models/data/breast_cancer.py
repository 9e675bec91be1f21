"""Breast cancer Wisconsin (diagnostic): 569 biopsies, 30 measurements of the cell nuclei, from scikit-learn. NumPy source."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from models.data.dataset import Dataset, pipeline_of, shuffled_splits
from models.spec import Affine

LABELS = ("malignant", "benign")
_MEASURES = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness"),
    *("concavity", "concave points", "symmetry", "fractal dimension"),
)
# As scikit-learn names them; written out so that naming the columns does not read the data.
COLUMNS = (
    *(f"mean {measure}" for measure in _MEASURES),
    *(f"{measure} error" for measure in _MEASURES),
    *(f"worst {measure}" for measure in _MEASURES),
)


def dataset() -> Dataset:
    """Rows ``({"features": float32 [30]}, label float32)``: label 1 is benign."""
    data = load_breast_cancer()
    features, labels = data.data.astype(np.float32), data.target.astype(np.float32)
    parts = shuffled_splits(len(features), validation=0.15, test=0.25, seed=7)
    fitted = features[parts[0]]
    train, validation, test = (pipeline_of({"features": features[rows]}, labels[rows]) for rows in parts)
    return Dataset(
        train,
        validation,
        test,
        splits="60 % train, 15 % validation, 25 % test, shuffled once with seed 7",
        affines={"features": Affine(tuple(fitted.mean(0).tolist()), tuple(fitted.std(0).tolist()))},
        ranges={"features": (float(fitted.min()), float(fitted.max())), "probability": (0.0, 1.0)},
    )
