"""Inputs for the evidence that no data set holds: the ends of the range, zeros, constant series, and seeded random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.spec import ModelSpec

Rows = dict[str, NDArray]
Bounds = Mapping[str, tuple[NDArray, NDArray]]
WIDENING = 0.1  # evidence stays inside the training range, widened by this part of it
RANDOM_ROWS = 32
SEED = 31


def bounds_of(train: Rows) -> Bounds:
    """Lowest and highest training value of each input, per feature where the tensor is a vector, else overall."""
    found = {}
    for name, values in train.items():
        axes: tuple[int, ...] = (0,) if values.ndim == 2 and np.issubdtype(values.dtype, np.floating) else ()
        low, high = (f(values, axis=axes or None) for f in (np.min, np.max))
        shape = values.shape[1:]
        found[name] = (np.broadcast_to(low, shape).astype(np.float64), np.broadcast_to(high, shape).astype(np.float64))
    return found


def boundary_rows(spec: ModelSpec, bounds: Bounds) -> Rows:
    """Rows at the edges. Row i of every input belongs together, so inputs are all low, all high, and so on at once."""
    return {t.name: _boundary(*bounds[t.name], np.dtype(t.dtype)) for t in spec.inputs}


def _boundary(low: NDArray, high: NDArray, dtype: np.dtype) -> NDArray:
    width = high - low
    places = np.indices(low.shape).sum(0)
    along = np.linspace(0, 1, max(low.size, 2))[: low.size].reshape(low.shape)
    first = places == 0
    rows = [
        low,
        high,
        (low + high) / 2,
        np.clip(0.0, low - WIDENING * width, high + WIDENING * width),  # zero, or what comes nearest to it
        np.where(places % 2, high, low),  # from one end to the other at every step
        np.where(first, high, low),
        np.where(first, low, high),
        low + along * width,
        high - along * width,
    ]
    if np.issubdtype(dtype, np.floating):
        rows += [low - WIDENING / 2 * width, high + WIDENING / 2 * width]
    return _cast(np.stack(rows), dtype)


def random_rows(spec: ModelSpec, bounds: Bounds, train: Rows, *, rows: int = RANDOM_ROWS) -> Rows:
    """Seeded: half uniform inside the range, half a mixture of two training rows, which looks like the data."""
    generator = np.random.default_rng(SEED)
    count = len(next(iter(train.values())))
    first, second = generator.integers(count, size=(2, rows // 2))
    share = generator.random(rows // 2)
    made = {}
    for tensor in spec.inputs:
        low, high = bounds[tensor.name]
        uniform = low + generator.random((rows - rows // 2, *low.shape)) * (high - low)
        values = train[tensor.name]
        if np.issubdtype(values.dtype, np.floating):
            weight = share.reshape(-1, *[1] * (values.ndim - 1))
            mixed = weight * values[first] + (1 - weight) * values[second]
        else:  # codes have no mean: take each place from one row or the other
            mixed = np.where(generator.random((rows // 2, *low.shape)) < 0.5, values[first], values[second])
        made[tensor.name] = _cast(np.concatenate([uniform, mixed]), np.dtype(tensor.dtype))
    return made


def _cast(values: NDArray, dtype: np.dtype) -> NDArray:
    return (values if np.issubdtype(dtype, np.floating) else np.rint(values)).astype(dtype)
