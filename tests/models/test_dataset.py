"""Dataset: rows that are read in batches are those that the pipeline gives one by one."""

from __future__ import annotations

import numpy as np
import pytest

from models import registry
from models.data.dataset import Dataset, pipeline_of


@pytest.fixture(scope="module")
def data() -> Dataset:
    """More rows than are read at a time, in two inputs of different shapes and dtypes; strings too."""
    generator = np.random.default_rng(0)
    inputs = {
        "series": generator.normal(size=(2520, 3, 2)).astype(np.float32),
        "tokens": generator.integers(0, 9, (2520, 4)).astype(np.int32),
        "text": np.array([f"row {number}" for number in range(2520)], object),
    }
    labels = generator.integers(0, 5, 2520)
    parts = [
        pipeline_of({name: values[a:b] for name, values in inputs.items()}, labels[a:b])
        for a, b in ((0, 2060), (2060, 2519), (2519, 2520))
    ]
    return Dataset(*parts, splits="in order")


def one_by_one(pipeline):
    inputs, labels = zip(*pipeline.as_numpy_iterator(), strict=True)
    return {name: np.stack([row[name] for row in inputs]) for name in inputs[0]}, np.asarray(labels)


def assert_same(found, expected):
    (inputs, labels), (expected_inputs, expected_labels) = found, expected
    assert list(inputs) == list(expected_inputs)
    for name, values in expected_inputs.items():
        assert inputs[name].dtype == (object if name == "text" else values.dtype)
        assert inputs[name].tolist() == values.tolist()
    assert labels.dtype == expected_labels.dtype
    assert labels.tolist() == expected_labels.tolist()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_are_those_of_the_pipeline_one_by_one(data, split):
    assert_same(data.rows(split), one_by_one(getattr(data, split)))


@pytest.mark.parametrize("limit", [1, 1024, 1025, 5000])
def test_rows_up_to_a_limit_are_the_first_ones(data, limit):
    assert_same(data.rows("train", limit), one_by_one(data.train.take(limit)))


@pytest.mark.parametrize("model", ["cnn", "lstm", "mlp", "transformer"])
def test_rows_of_a_model_are_those_of_its_pipeline(model):
    data = registry.load(model).dataset()
    assert_same(data.rows("test", 300), one_by_one(data.test.take(300)))


def test_count_is_that_of_the_pipeline(data):
    assert [data.count(split) for split in ("train", "validation", "test")] == [2060, 459, 1]
    assert all(data.count(s) == sum(1 for _ in getattr(data, s)) for s in ("train", "validation", "test"))
