"""Raw units → the file's, against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import RequestError
from edge.tensors import Tensor


def tensor(dtype: str, shape: list[int | None], *, zero_point: int = -3) -> Tensor:
    told = {"name": "x", "dtype": dtype, "shape": shape, "scale": 0.037, "zero_point": zero_point}
    return Tensor.from_json(told, None)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_quantizing_rounds_to_even_and_stays_inside_the_type(dtype: str):
    generator = np.random.default_rng(0)
    halves = (np.arange(-40, 40, dtype=np.float32) + np.float32(0.5)) * np.float32(0.037)
    value = np.concatenate([generator.normal(0, 5, 4000), halves, [3.4e38, -3.4e38, 0.0]]).astype(np.float32)[None]
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore"):
        expected = np.clip(np.rint(value / np.float32(0.037)) - 3, limits.min, limits.max).astype(dtype)
        kept = value.copy()
        quantized = tensor(dtype, [1, value.size]).to_file({"x": value})
    assert quantized.dtype == dtype
    np.testing.assert_array_equal(quantized, expected)
    assert {limits.min, limits.max} <= set(quantized.ravel().tolist())
    np.testing.assert_array_equal(value, kept)  # the caller's array is not written to


def test_number_without_a_batch_is_quantized_too():
    assert tensor("int8", []).to_file({"x": np.array(0.37, np.float32)}) == 7


def test_what_int8_cannot_hold_is_refused():
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(RequestError, match="holds NaN or infinity"):
            tensor("int8", [1, 2]).to_file({"x": np.array([[0, value]], np.float32)})
