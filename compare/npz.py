"""Tensors to and from an ``.npz`` without pickle: a string tensor becomes ``<name>.bytes``, ``.offsets`` and ``.shape``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.evidence import decode_strings, encode_strings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]


def write_tensors(path: Path, tensors: Tensors) -> None:
    arrays: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "O":
            arrays[f"{name}.bytes"], arrays[f"{name}.offsets"] = encode_strings(tensor.ravel())
            arrays[f"{name}.shape"] = np.array(tensor.shape, np.int64)
        else:
            arrays[name] = tensor
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes them for its flag


def read_tensors(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    tensors: Tensors = {}
    for key, array in arrays.items():
        if key.endswith(".bytes"):
            name = key.removesuffix(".bytes")
            tensors[name] = decode_strings(array, arrays[f"{name}.offsets"]).reshape(arrays[f"{name}.shape"])
        elif not key.endswith((".offsets", ".shape")):
            tensors[key] = array
    return tensors
