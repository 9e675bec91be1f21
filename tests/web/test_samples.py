"""The page's samples are rows of the evidence, digit for digit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from export.evidence import Case
from models.data import co2
from web.samples import SAMPLES, as_json, choose, dates_of, samples

if TYPE_CHECKING:
    from export.bundle import Export


@pytest.mark.parametrize("model", ["cnn", "lstm", "mlp", "transformer"])
def test_samples_are_rows_of_the_evidence(exports: dict[tuple[str, int], Export], model: str) -> None:
    export = exports[model, 2]
    case = export.evidence.case("serving_default", "test")
    content = samples(export)
    assert case
    assert content["kind"] == "test"
    assert len(content["samples"]) == SAMPLES
    ((name, rows),) = case.inputs.items()
    for sample in content["samples"]:
        values = np.asarray(sample["inputs"][name], rows.dtype)
        (place,) = np.flatnonzero((rows == values).reshape(case.rows, -1).all(1))[:1]
        for output, expected in case.outputs.items():
            np.testing.assert_array_equal(np.asarray(sample["outputs"][output], expected.dtype), expected[place])


def test_first_sample_is_one_that_the_reference_gets_right(exports: dict[tuple[str, int], Export]) -> None:
    first = samples(exports["transformer", 2])["samples"][0]
    assert int(np.argmax(first["outputs"]["probabilities"])) == first["label"]


def test_series_has_the_days_on_which_it_was_read(exports: dict[tuple[str, int], Export]) -> None:
    content = samples(exports["lstm", 2])
    ppm = {f"{day[:4]}-{day[4:6]}-{day[6:]}": value for day, value in zip(*co2.readings(), strict=True)}
    assert len(content["series_dates"]) == len(content["series"])
    assert content["series_dates"][0] == "1994-01-01"
    series = np.asarray(content["series"], np.float32)
    np.testing.assert_array_equal(series, [ppm[day] for day in content["series_dates"]])


def test_series_of_something_else_has_no_days(exports: dict[tuple[str, int], Export]) -> None:
    assert samples(exports["cnn", 2])["series_dates"] is None
    stretch = samples(exports["lstm", 2])["series"]
    assert dates_of([value + 1 for value in stretch]) is None
    assert dates_of(stretch * 10) is None


def test_samples_take_each_label_in_turn() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 1])
    case = Case("test", {"x": np.zeros((10, 1))}, {"y": np.zeros((10, 1))}, labels)
    assert [int(labels[i]) for i in choose(case)][:5] == [0, 1, 2, 0, 1]


def test_nan_becomes_null() -> None:
    assert as_json(np.array([np.nan, 1.5, np.inf], np.float32)) == [None, 1.5, None]
