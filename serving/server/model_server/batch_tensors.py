"""Requests' tensors joined to a batch's, and the batch's answer taken apart, along axis 0.

The rules and texts are TF Serving's (tensorflow_serving/batching/batching_session.cc, batching_util.cc).
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from model_server.errors import Code, ServingError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray]


def rows_in(inputs: Tensors) -> int:
    """The size of axis 0, which all inputs share. Raises ServingError INVALID_ARGUMENT."""
    if not inputs:
        raise invalid("Batching Run() must have at least one input tensor")
    shapes = [array.shape for array in inputs.values()]
    if () in shapes:
        raise invalid("Batching Run() input tensors must have at least one dimension")
    if len({shape[0] for shape in shapes}) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return shapes[0][0]


def padding(rows: int, allowed: Sequence[int]) -> int:
    """Rows to add so that their number is an allowed one."""
    return next((size - rows for size in allowed if size >= rows), 0) if rows else 0


def merged(parts: Sequence[Tensors], added: int, *, pads: bool, tensor: Callable[[str], str]) -> Tensors:
    """``added`` rows repeat the first row of the last part that has any. ``tensor`` gives an input's name in the graph.

    Raises ServingError FAILED_PRECONDITION when rows differ in shape, unless ``pads``: then shorter ones are filled up
    with the first value of their tensor.
    """
    if len(parts) == 1 and not added:
        return parts[0]
    whole: dict[str, NDArray] = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if len({array.shape[1:] for array in arrays}) > 1:
            if not pads or len({array.ndim for array in arrays}) > 1:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{tensor(name)}' from different tasks have different shapes and padding is "
                    "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                    "have equal dimensions starting with the first dim.",
                )
            shape = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
            arrays = [_padded(array, shape) for array in arrays]
        if added:
            arrays += [next(array[:1] for array in reversed(arrays) if len(array))] * added
        whole[name] = np.concatenate(arrays)
    return whole


def _padded(array: NDArray, shape: tuple[int, ...]) -> NDArray:
    if array.shape[1:] == shape:
        return array
    if not len(array):
        return np.empty((0, *shape), array.dtype)
    if not array.size:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    filled = np.full((len(array), *shape), array.flat[0], array.dtype)
    filled[tuple(slice(size) for size in array.shape)] = array
    return filled


def split(answer: Tensors, sizes: Sequence[int], added: int) -> list[dict[str, NDArray]]:
    """One answer for each size, without the ``added`` rows; views. Raises ServingError FAILED_PRECONDITION."""
    for array in answer.values():
        if not array.ndim:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if array.shape[0] != sum(sizes) + added:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            )
    if len(sizes) == 1 and not added:
        return [dict(answer)]
    ends = accumulate(sizes)
    return [
        {name: array[end - size : end] for name, array in answer.items()} for size, end in zip(sizes, ends, strict=True)
    ]


def joined(answers: Sequence[Tensors]) -> dict[str, NDArray]:
    """The answers of a request's parts as one."""
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
