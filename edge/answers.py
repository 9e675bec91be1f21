"""What a .tflite file answers to every recorded row, in a form that another machine can judge."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.sample_inputs import inputs_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge.runtime import LiteModel, Tensors


def record_answers(model: LiteModel, kinds: Mapping[str, Tensors]) -> dict[str, Any]:
    """``outputs`` in raw units, and ``raw_outputs``: what the file itself gives, asked once more (int8 for a quantized one).

    Both are ``{kind: {tensor: {"dtype", "shape", "base64"}}}``, little-endian.
    """
    return {
        "sha256": model.sha256,
        "inputs_sha256": inputs_sha256(kinds),
        "outputs": {kind: _encoded(model.predict(inputs)) for kind, inputs in kinds.items()},
        "raw_outputs": {kind: _encoded(_file_outputs(model, inputs)) for kind, inputs in kinds.items()},
    }


def _file_outputs(model: LiteModel, inputs: Tensors) -> Tensors:
    rows = len(next(iter(inputs.values())))
    size = model.batch or rows
    parts = [
        model.invoke(model.prepare({name: values[start : start + size] for name, values in inputs.items()}))
        for start in range(0, rows, size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _encoded(tensors: Mapping[str, NDArray]) -> dict[str, Any]:
    return {
        name: {
            "dtype": values.dtype.name,
            "shape": list(values.shape),
            "base64": base64.b64encode(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()).decode(),
        }
        for name, values in tensors.items()
    }


def decode_tensor(encoded: Mapping[str, Any]) -> NDArray:
    """Raises ValueError when it is not what ``record_answers`` writes."""
    dtype = np.dtype(encoded["dtype"])
    values = np.frombuffer(base64.b64decode(encoded["base64"], validate=True), dtype.newbyteorder("<"))
    return values.reshape(encoded["shape"]).astype(dtype)
