"""What a runtime answers to NaN and infinity: told, not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

INPUTS = {"NaN": np.nan, "+Inf": np.inf, "−Inf": -np.inf}


def answers_to_nonfinite(predict: Callable[[Tensors], Tensors], row: Tensors) -> dict[str, str] | None:
    """One text for each of NaN, +Inf and −Inf put into the middle element of the first float input of ``row``.

    None when the model has no float input.
    """
    name = next((name for name, value in row.items() if value.dtype.kind == "f" and value.size), None)
    if name is None:
        return None
    told = {}
    for kind, value in INPUTS.items():
        spoiled = row[name].copy()
        spoiled.flat[spoiled.size // 2] = value
        try:
            told[kind] = _describe(predict({**row, name: spoiled}))
        except TargetError:
            told[kind] = "refused"
    return told


def _describe(outputs: Tensors) -> str:
    """The first float output in a few words: its value when there is one, else what its elements are."""
    for name in sorted(outputs):  # targets give them in different orders
        value = np.asarray(outputs[name])
        if value.dtype.kind != "f" or not value.size:
            continue
        if np.isnan(value).all():
            return "NaN"
        if np.isnan(value).any():
            return f"NaN in {int(np.isnan(value).sum())} of {value.size}"
        if np.isinf(value).any():
            return f"infinite in {int(np.isinf(value).sum())} of {value.size}"
        return f"{value.flat[0]:.4g}" if value.size == 1 else f"finite, largest {value.max():.3g}"
    return "no float output"
