"""Rows of named NumPy arrays as ``tf.Example``: what Classify, Regress and MultiInference take.

The first axis counts examples; the rest of a row is flattened into its feature's list. Floats become a float_list,
integers and booleans an int64_list, text and bytes a bytes_list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from serving.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_LISTS = {"f": "float_list", "i": "int64_list", "u": "int64_list", "b": "int64_list",
          "O": "bytes_list", "S": "bytes_list", "U": "bytes_list"}  # fmt: skip


def fill_input(message: Any, examples: Mapping[str, NDArray], context: Mapping[str, NDArray] | None) -> None:
    """Fill a ``tensorflow.serving.Input``; ``context`` holds features that every example shares."""
    into = message.example_list if context is None else message.example_list_with_context
    into.SetInParent()
    for row in _rows(examples):
        _fill(into.examples.add(), row)
    if context is not None:
        _fill(into.context, {name: np.asarray(value) for name, value in context.items()})


def json_examples(examples: Mapping[str, NDArray], context: Mapping[str, NDArray] | None) -> dict[str, Any]:
    """The members ``examples`` and ``context`` of a REST classify or regress request."""
    body: dict[str, Any] = {"examples": [_jsonable(row) for row in _rows(examples)]}
    if context is not None:
        body["context"] = _jsonable({name: np.asarray(value) for name, value in context.items()})
    return body


def _rows(examples: Mapping[str, NDArray]) -> Iterator[dict[str, NDArray]]:
    columns = {name: np.asarray(column) for name, column in examples.items()}
    counts = {name: len(column) if column.ndim else None for name, column in columns.items()}
    if len(set(counts.values())) > 1 or None in counts.values():
        told = ", ".join(f"{name} {'is a scalar' if n is None else f'has {n}'}" for name, n in counts.items())
        raise ClientError("INVALID_ARGUMENT", f"each feature needs one row for each example ({told}); align them")
    for index in range(next(iter(counts.values()), 0) or 0):
        # A slice, so that a row is an array even where the column has one axis.
        yield {name: column[index : index + 1] for name, column in columns.items()}


def _fill(example: Any, row: Mapping[str, NDArray]) -> None:
    for name, array in row.items():
        field = _list_of(name, array)
        getattr(example.features.feature[name], field).value.extend(_values(array, field))


def _jsonable(row: Mapping[str, NDArray]) -> dict[str, list[Any]]:
    """JSON tells features apart by their values: a whole number is an int64, text may be ``{"b64": …}``."""
    from base64 import b64encode

    found: dict[str, list[Any]] = {}
    for name, array in row.items():
        field = _list_of(name, array)
        values = _values(array, field)
        found[name] = [{"b64": b64encode(v).decode()} for v in values] if field == "bytes_list" else values
    return found


def _list_of(name: str, array: NDArray) -> str:
    field = _LISTS.get(array.dtype.kind) or ("float_list" if array.dtype.name == "bfloat16" else None)
    if field is None:
        raise ClientError("INVALID_ARGUMENT", f"feature {name} is {array.dtype}, which tf.Example cannot hold; cast it")
    return field


def _values(array: NDArray, field: str) -> list[Any]:
    flat = array.ravel()
    if field == "bytes_list":
        return [value.encode() if isinstance(value, str) else bytes(value) for value in flat.tolist()]
    return flat.astype(np.float64 if field == "float_list" else np.int64, copy=False).tolist()
