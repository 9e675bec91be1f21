"""How far two tensors are apart, element by element. NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def absolute_error(value: NDArray, reference: NDArray) -> NDArray:
    """|value − reference|, float64. Strings and booleans: 0 where equal, 1 where not.

    Where both are the same infinity or both are NaN the distance is 0; where only one is finite it is infinite.
    """
    if reference.dtype.kind in "OSUb":
        return (value != reference).astype(np.float64)
    value, reference = value.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(value - reference)
    same = (value == reference) | (np.isnan(value) & np.isnan(reference))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def relative_error(value: NDArray, reference: NDArray) -> NDArray:
    """|value − reference| / max(|value|, |reference|), float64, 0 where both are zero.

    The larger magnitude in the denominator keeps it defined and at most 2 when the reference is zero; for small errors
    it equals the usual definition.
    """
    error = absolute_error(value, reference)
    if reference.dtype.kind in "OSUb":
        return error
    magnitude = np.maximum(np.abs(value.astype(np.float64)), np.abs(reference.astype(np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.where(np.isfinite(error), error / magnitude, np.inf))


def smallest_tolerance(value: NDArray, reference: NDArray) -> float:
    """The smallest t with |error| ≤ t, relative or absolute, for every element: the tolerance that would have passed."""
    either = np.minimum(absolute_error(value, reference), relative_error(value, reference))
    return float(either.max(initial=0.0))
