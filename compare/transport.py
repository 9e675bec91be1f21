"""Tensors on their way to a JavaScript runtime and back: JSON with the bytes in base64, as ``web/demo/src/base64.ts`` reads it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from compare.target import Tensors
    from models.spec import ModelSpec, TensorSpec

    Encoded = dict[str, dict[str, Any]]

ROWS_PER_CALL = 256


def predict_in_pieces(inputs: Tensors, spec: ModelSpec, ask: Callable[[Encoded], Encoded]) -> Tensors:
    """The answers to all rows, in the dtypes of ``spec``; a long batch crosses in pieces, so that no message grows large."""
    rows = len(next(iter(inputs.values())))
    pieces = []
    for start in range(0, rows, ROWS_PER_CALL):
        piece = {name: array[start : start + ROWS_PER_CALL] for name, array in inputs.items()}
        pieces.append(decode_all(ask(encode_all(piece, spec.inputs))))
    dtypes = {t.name: t.dtype for t in spec.outputs}
    return {
        name: np.concatenate([p[name] for p in pieces]).astype(dtypes.get(name, first.dtype), copy=False)
        for name, first in pieces[0].items()
    }


def first_row(inputs: Tensors) -> Tensors:
    return {name: array[:1] for name, array in inputs.items()}


def encode_all(inputs: Tensors, specs: tuple[TensorSpec, ...]) -> Encoded:
    known = {t.name for t in specs}
    if unknown := set(inputs) - known:
        raise TargetError(f"there is no input {sorted(unknown)[0]!r}; there are: {', '.join(sorted(known))}")
    return {name: encode(name, array) for name, array in inputs.items()}


def encode(name: str, array: NDArray) -> dict[str, object]:
    """A page knows float32 and int32 alone; what does not fit into them is refused, not bent."""
    if array.dtype.kind not in "fiub":
        raise TargetError(f"input {name!r} is {array.dtype}; a page's runtime takes numbers only")
    narrow = array.astype("<f4" if array.dtype.kind == "f" else "<i4")
    if array.dtype.kind in "iu" and not np.array_equal(narrow, array):
        raise TargetError(f"input {name!r} has integers beyond 32 bits, which a page's runtime does not take")
    data = base64.b64encode(np.ascontiguousarray(narrow).tobytes()).decode()
    return {"shape": list(array.shape), "dtype": "float32" if narrow.dtype.kind == "f" else "int32", "data": data}


def decode_all(outputs: Encoded) -> Tensors:
    return {
        name: np.frombuffer(base64.b64decode(t["data"]), "<f4" if t["dtype"] == "float32" else "<i4").reshape(
            t["shape"]
        )
        for name, t in outputs.items()
    }
