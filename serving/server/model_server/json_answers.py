"""Tensors → the JSON of an answer, in row format (``predictions``) or column format (``outputs``).

orjson writes NumPy arrays directly, float32 with the fewest digits that read back as the same float32. What it cannot
write as TF Serving does (NaN, infinities, strings) goes through Python values.
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from model_server.errors import invalid
from model_server.tensors import BY_DTYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
# From here on TF Serving writes an exponent and orjson does not; NaN and infinities are not below it either.
PLAIN_BELOW = 1e6
_WRITTEN = {"float", "double", "int32", "int16", "int8", "uint8", "int64", "uint32", "uint64", "bool", "string"}


def predictions(outputs: Mapping[str, NDArray]) -> bytes:
    """Row format. One output gives a list of its rows, several a list of objects."""
    for name, array in outputs.items():
        _check(name, array)
        if not array.shape:
            raise invalid(f"Tensor name: {name} has no shape information ")
    sizes = {name: len(array) for name, array in outputs.items()}
    if len(set(sizes.values())) > 1:
        expected = next(iter(sizes.values()))
        name, size = next((name, size) for name, size in sizes.items() if size != expected)
        raise invalid(f"Tensor name: {name} has inconsistent batch size: {size} expecting: {expected}")
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{\n    "predictions": ' + _written(name, array) + b"\n}"
    finite = _all_finite(outputs)
    columns = {name: _values(name, array, finite=finite) for name, array in outputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return b'{\n    "predictions": ' + _dumps(rows, finite=finite) + b"\n}"


def columns(outputs: Mapping[str, NDArray]) -> bytes:
    """Column format. One output gives its value, several an object."""
    for name, array in outputs.items():
        _check(name, array)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{\n    "outputs": ' + _written(name, array) + b"\n}"
    items = b",\n        ".join(orjson.dumps(name) + b": " + _written(name, array) for name, array in outputs.items())
    return b'{\n    "outputs": {\n        ' + items + b"\n    }\n}"


def _check(name: str, array: NDArray) -> None:
    kind = BY_DTYPE.get(array.dtype)
    if kind is None or kind.name not in _WRITTEN:
        shown = kind.name if kind else str(array.dtype)
        raise invalid(f"Tensor name: {name} has a dtype that REST cannot write: {shown}; ask by gRPC")


def _written(name: str, array: NDArray) -> bytes:
    if array.dtype == object:
        return _dumps(_values(name, array, finite=True), finite=True)
    if array.dtype.kind == "f" and array.size and not np.abs(array).max() < PLAIN_BELOW:
        return floats(array).encode()
    if not array.shape:
        return orjson.dumps(array[()], option=_OPTIONS)
    if 0 in array.shape:
        return orjson.dumps(array.tolist())
    return orjson.dumps(np.ascontiguousarray(array), option=_OPTIONS)


def floats(array: Any) -> str:
    """As TF Serving prints them: 6 (double: 15) digits where they read back as the same number, else 9 (17)."""
    if array.ndim:
        return "[" + ",".join(map(floats, array)) + "]"
    value, digits = float(array), 6 if array.dtype == np.float32 else 15
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.{digits}g}"
    if array.dtype.type(text) != array:
        text = f"{value:.{digits + (3 if digits == 6 else 2)}g}"
    return text if set(text) & set(".e") else f"{text}.0"


def _values(name: str, array: NDArray, *, finite: bool) -> Any:
    if array.dtype != object:
        # Rows that stay arrays keep float32 short: 0.1, not 0.10000000149011612.
        return list(np.ascontiguousarray(array)) if finite and array.size else array.tolist()
    if name.endswith("_bytes"):
        return _mapped(array.tolist(), lambda value: {"b64": base64.b64encode(value).decode()})
    return _mapped(array.tolist(), lambda value: value.decode("utf-8", "surrogateescape"))


def _mapped(value: Any, change: Any) -> Any:
    return [_mapped(item, change) for item in value] if isinstance(value, list) else change(value)


def _all_finite(outputs: Mapping[str, NDArray]) -> bool:
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in outputs.values())


def _dumps(value: Any, *, finite: bool) -> bytes:
    if finite:
        try:
            return orjson.dumps(value, option=_OPTIONS)
        except TypeError:
            pass  # a string that is not UTF-8 is written as it is, as TF Serving does
    return json.dumps(value, ensure_ascii=False, default=lambda array: array.tolist()).encode(
        "utf-8", "surrogateescape"
    )


def error(message: str) -> bytes:
    return b'{\n    "error": ' + orjson.dumps(message.encode("utf-8", "replace").decode()) + b"\n}"
