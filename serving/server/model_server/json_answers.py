"""Tensors → the JSON of an answer, in row format (``predictions``) or column format (``outputs``).

Numbers and layout are TF Serving's, to the byte: it prints with RapidJSON's PrettyWriter, lists of rows on one line
(tensorflow_serving/util/json_tensor.cc), numbers with as many digits as it takes to read the same number back
(WriteDecimal there).
"""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import orjson

from model_server.errors import invalid
from model_server.tensors import BY_DTYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Shape = tuple[int, ...]

_WRITTEN = {"float", "double", "int32", "int16", "int8", "uint8", "int64", "uint32", "uint64", "bool", "string"}
# Layouts of more values than this are made anew for each answer: they take as much memory as the answer.
_KEPT = 1 << 12


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
        layout = _rows(array.shape) if array.size <= _KEPT else _rows.__wrapped__(array.shape)
        return _body(layout % tuple(_values(name, array, 2)))
    columns = {name: [_line(name, row, 3) for row in array] for name, array in outputs.items()}
    keys = [_text(name.encode()) for name in columns]
    objects = [
        "        {\n"
        + ",\n".join([f"            {key}: {value}" for key, value in zip(keys, row, strict=True)])
        + "\n        }"
        for row in zip(*columns.values(), strict=True)
    ]
    return _body('{\n    "predictions": [\n' + ",\n".join(objects) + "\n    ]\n}")


def columns(outputs: Mapping[str, NDArray]) -> bytes:
    """Column format. One output gives its value, several an object."""
    for name, array in outputs.items():
        _check(name, array)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return _body('{\n    "outputs": ' + _block(name, array, 1) + "\n}")
    items = ",\n".join([f"        {_text(name.encode())}: {_block(name, array, 2)}" for name, array in outputs.items()])
    return _body('{\n    "outputs": {\n' + items + "\n    }\n}")


def error(message: str) -> bytes:
    return b'{\n    "error": ' + orjson.dumps(message.encode("utf-8", "replace").decode()) + b"\n}"


def number(value: float) -> str:
    """A float32, given as the double of the same value: six digits where they read back as it, else nine."""
    text = f"{value:.6g}"
    off = abs(float(text) - value)
    # Half the distance to the next float32 is between 2^-25 and 2^-24 of the value (2^-150 below 2^-126): between the
    # two it has to be tried.
    if off and off > abs(value) * 2**-25 and (off > abs(value) * 2**-24 + 2**-150 or np.float32(text) != value):
        text = f"{value:.9g}"
    return text if "." in text or "e" in text else _whole(text)


def _double(value: float) -> str:
    text = f"{value:.15g}"
    if float(text) != value:
        text = f"{value:.17g}"
    return text if "." in text or "e" in text else _whole(text)


def _whole(text: str) -> str:
    """Of a number without a point or an exponent."""
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text) or f"{text}.0"


def _check(name: str, array: NDArray) -> None:
    kind = BY_DTYPE.get(array.dtype)
    if kind is None or kind.name not in _WRITTEN:
        shown = kind.name if kind else str(array.dtype)
        raise invalid(f"Tensor name: {name} has a dtype that REST cannot write: {shown}; ask by gRPC")


def _values(name: str, array: NDArray, depth: int) -> list[str]:
    """Each value as JSON, in the array's order. ``depth`` is the indentation of what is in the list."""
    values = array.ravel().tolist()
    kind = array.dtype.kind
    if kind == "f":
        return [number(value) for value in values] if array.dtype == np.float32 else [_double(v) for v in values]
    if kind == "b":
        return ["true" if value else "false" for value in values]
    if kind != "O":
        return [str(value) for value in values]
    if name.endswith("_bytes"):
        pad = "    " * depth
        return [f'{{\n{pad}    "b64": "{base64.b64encode(value).decode()}"\n{pad}}}' for value in values]
    return [_text(value) for value in values]


def _text(value: bytes) -> str:
    """A JSON string; one that is not UTF-8 is written as it is, as TF Serving does."""
    text = value.decode("utf-8", "surrogateescape")
    try:
        return orjson.dumps(text).decode()
    except TypeError:
        return json.dumps(text, ensure_ascii=False)


def _line(name: str, array: NDArray, depth: int) -> str:
    return _one_line(array.shape) % tuple(_values(name, array, depth))


def _block(name: str, array: NDArray, depth: int) -> str:
    layout = _indented(array.shape, depth) if array.size <= _KEPT else _indented.__wrapped__(array.shape, depth)
    return layout % tuple(_values(name, array, depth + array.ndim))


@lru_cache(maxsize=256)
def _rows(shape: Shape) -> str:
    inner = ", ".join([_one_line(shape[1:])] * shape[0])
    return '{\n    "predictions": ' + (f"[{inner}\n    ]" if shape[0] else "[]") + "\n}"


def _one_line(shape: Shape) -> str:
    return "[" + ", ".join([_one_line(shape[1:])] * shape[0]) + "]" if shape else "%s"


@lru_cache(maxsize=256)
def _indented(shape: Shape, depth: int) -> str:
    if not shape:
        return "%s"
    if not shape[0]:
        return "[]"
    inner = ",\n".join(["    " * (depth + 1) + _indented.__wrapped__(shape[1:], depth + 1)] * shape[0])
    return "[\n" + inner + "\n" + "    " * depth + "]"


def _body(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
