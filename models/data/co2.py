"""Carbon dioxide at Mauna Loa: 2,284 weekly readings in ppm, 1958 to 2001, 59 of them missing. CSV source (statsmodels).

A row is 52 weeks and the week after them. The split is by time, and a row lies wholly inside its split, so that no
reading of the test years is seen in training.
"""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from models.data.dataset import Dataset, Rows, pipeline_of
from models.errors import ArtifactError
from models.spec import Affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEEKS = 52
# First day (yyyymmdd) of validation and of test.
VALIDATION_FROM, TEST_FROM = "19880101", "19940101"


def dataset() -> Dataset:
    """Rows ``({"series": float32 [52, 1] ppm}, next week float32 ppm)``."""
    days, ppm = readings()
    bounds = [0, *np.searchsorted(days, [VALIDATION_FROM, TEST_FROM]).tolist(), len(days)]
    splits = [windows(ppm[a:b]) for a, b in itertools.pairwise(bounds)]
    train, validation, test = (pipeline_of(inputs, labels) for inputs, labels in splits)
    series, following = splits[0][0]["series"], splits[0][1]
    last = series[:, -1, 0]
    return Dataset(
        train,
        validation,
        test,
        splits="by time: to 1987 train, 1988-1993 validation, 1994-2001 test; no week is in two splits",
        affines={
            "series": Affine("last(series)", (float((series[..., 0] - last[:, None]).std()),)),
            "next_week": Affine("last(series)", (float((following - last).std()),)),
        },
        ranges=dict.fromkeys(("series", "next_week"), (float(series.min()), float(series.max()))),
    )


def readings() -> tuple[NDArray, NDArray]:
    """Days as yyyymmdd strings [n] and ppm float32 [n], NaN where the week is missing."""
    package = importlib.util.find_spec("statsmodels")
    if package is None or package.origin is None:
        raise ArtifactError(
            "the package statsmodels, which carries the CO2 readings, is not installed; run `make setup`"
        )
    path = Path(package.origin).parent / "datasets" / "co2" / "co2.csv"
    table = tf.data.experimental.CsvDataset(str(path), [tf.string, tf.constant([np.nan], tf.float32)], header=True)
    days, ppm = zip(*table.as_numpy_iterator(), strict=True)
    return np.array([day.decode() for day in days]), np.array(ppm, np.float32)


def windows(ppm: NDArray) -> tuple[Rows, NDArray]:
    """Every 52 weeks and the week after, from one stretch. A gap is filled by a straight line between readings of the same
    52 weeks, and held level at their ends, so that no input knows of a later week; a row whose answer is missing is left out.
    """
    answered = ~np.isnan(ppm[WEEKS:])
    series = np.lib.stride_tricks.sliding_window_view(ppm, WEEKS)[:-1][answered]
    return {"series": np.stack([_filled(row) for row in series])[..., None]}, ppm[WEEKS:][answered]


def _filled(row: NDArray) -> NDArray:
    known = np.flatnonzero(~np.isnan(row))
    return np.interp(np.arange(len(row)), known, row[known]).astype(np.float32)
