"""Rows to ask with: recorded ones from an ``.npz`` with the keys ``<kind>/<tensor>``, or made-up ones. Raw units."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from edge.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

MADE_UP_ROWS = 16


def read_inputs(path: Path) -> dict[str, Tensors]:
    """``{kind: {tensor: [N, …]}}`` in the file's order. Raises ModelFileError when it is damaged."""
    kinds: dict[str, Tensors] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file:
                kind, name = key.split("/", 1)
                kinds.setdefault(kind, {})[name] = file[key]
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise ModelFileError(f"the inputs {path} cannot be read ({error}); copy them again") from error
    return kinds


def make_up_inputs(description: Mapping[str, Any]) -> dict[str, Tensors]:
    """Uniform rows: each column's mean ± scale where the json's normalisation has them, else inside the range that it states."""
    generator = np.random.default_rng(0)
    tensors = {}
    for told in description["inputs"]:
        affine = description["affine"]["inputs"].get(told["name"])
        shape = (MADE_UP_ROWS * (told["shape"][0] or 1), *(size or 1 for size in told["shape"][1:]))
        dtype = np.dtype(told["dtype"] if told["scale"] is None else np.float32)
        low, high = _limits(told.get("range"), affine, whole=dtype.kind in "iu")
        values = low + generator.random(shape) * (np.asarray(high) - low)
        tensors[told["name"]] = (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)
    return {"made-up": tensors}


def _limits(stated: Any, affine: Mapping[str, Any] | None, *, whole: bool) -> tuple[NDArray, NDArray]:
    if affine and not isinstance(affine["ref"], str):
        reference, scale = np.asarray(affine["ref"]), np.asarray(affine["scale"])
        return reference - scale, reference + scale
    if stated:
        return np.asarray(stated[0]), np.asarray(stated[1])
    return np.asarray(0 if whole else -1), np.asarray(1)


def inputs_sha256(kinds: Mapping[str, Tensors]) -> str:
    """A digest of names, dtypes, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for kind in sorted(kinds):
        for name, rows in sorted(kinds[kind].items()):
            little = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{kind}/{name} {rows.dtype.name} {list(rows.shape)}\n".encode())
            digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()
