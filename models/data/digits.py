"""Handwritten digits (UCI): 1,797 images of 8×8 pixels with 17 grey levels, from scikit-learn. NumPy source."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from models.data.dataset import Dataset, pipeline_of, shuffled_splits
from models.spec import Affine


def dataset() -> Dataset:
    """Rows ``({"image": float32 [8, 8, 1], 0 to 16}, label int32 0 to 9)``."""
    data = load_digits()
    images, labels = data.images.astype(np.float32)[..., None], data.target.astype(np.int32)
    parts = shuffled_splits(len(images), validation=0.1, test=0.25, seed=11)
    fitted = images[parts[0]]
    train, validation, test = (pipeline_of({"image": images[rows]}, labels[rows]) for rows in parts)
    return Dataset(
        train,
        validation,
        test,
        splits="65 % train, 10 % validation, 25 % test, shuffled once with seed 11",
        affines={"image": Affine((float(fitted.mean()),), (float(fitted.std()),))},
        ranges={"image": (float(fitted.min()), float(fitted.max())), "probabilities": (0.0, 1.0)},
    )
