"""TF Serving's JSON form of tensors: rows (``instances`` → ``predictions``) and columns (``inputs`` → ``outputs``).

Source: TF Serving REST API, "Predict API". NaN, Infinity and -Infinity are numbers in both directions, as there.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from edge.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.runtime import Tensors
    from edge.tensors import Tensor

SIGNATURE = "serving_default"  # what a device's file answers, in raw units


def parse_request(body: bytes, wanted: Sequence[Tensor]) -> tuple[Tensors, bool]:
    """A request body → the inputs as arrays, and whether it was in row format. Raises RequestError."""
    try:
        return _convert(orjson.loads(body), wanted)
    except (orjson.JSONDecodeError, RequestError):  # json knows NaN and numbers of any length, and says what is wrong
        return _convert(_load(body), wanted)


def _convert(request: Any, wanted: Sequence[Tensor]) -> tuple[Tensors, bool]:
    if not isinstance(request, dict):
        raise RequestError(f"JSON Value: the document is {_kind(request)}; send an object with 'instances' or 'inputs'")
    if "instances" in request and "inputs" in request:
        raise RequestError("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    signature = request.get("signature_name") or SIGNATURE
    if signature != SIGNATURE:
        raise RequestError(f'Serving signature name: "{signature}" not found in signature def')
    if "instances" in request:
        return _rows(request["instances"], wanted), True
    if "inputs" in request:
        return _columns(request["inputs"], wanted), False
    raise RequestError("Missing 'inputs' or 'instances' key")


def format_answer(outputs: Tensors, *, rows: bool) -> bytes:
    """The answer's body, in the request's format; a single output stands without its name."""
    content: Any = outputs
    if len(outputs) == 1:
        (content,) = outputs.values()
    elif rows:
        content = [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]
    answer = {"predictions" if rows else "outputs": content}
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)
    if b"null" not in body:  # its word for NaN and infinity
        return body
    return json.dumps(answer, default=_plain).encode()


def _plain(value: Any) -> Any:
    return value.tolist()


def _load(body: bytes) -> Any:
    if not body.strip():
        raise RequestError("JSON Parse error: The document is empty")
    try:
        return json.loads(body.decode("utf-8-sig"))  # a byte order mark is skipped, as by TF Serving
    except json.JSONDecodeError as error:
        raise RequestError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"JSON Parse error: not UTF-8 at offset: {error.start}") from None
    except (ValueError, RecursionError) as error:  # a number of more than 4300 digits, lists nested without end
        raise RequestError(f"JSON Parse error: {error}") from None


def _rows(instances: Any, wanted: Sequence[Tensor]) -> Tensors:
    if not isinstance(instances, list) or not instances:
        raise RequestError(f"'instances' is {_kind(instances)}; expecting a list with at least one element")
    named = [isinstance(row, dict) for row in instances]
    if not any(named):
        if len(wanted) > 1:
            names = ", ".join(tensor.name for tensor in wanted)
            raise RequestError(
                f"the model has several inputs; each element of 'instances' must be an object with {names}"
            )
        return {wanted[0].name: _array(instances, wanted[0])}
    if not all(named):
        raise RequestError(f"element {named.index(False)} of 'instances' is not an object, though others are")
    expected = {tensor.name for tensor in wanted}
    for i, row in enumerate(instances):
        if set(row) != expected:
            extra, missing = sorted(set(row) - expected), sorted(expected - set(row))
            raise RequestError(
                f"Failed to process element: {i} of 'instances' list. "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
    return {tensor.name: _array([row[tensor.name] for row in instances], tensor) for tensor in wanted}


def _columns(inputs: Any, wanted: Sequence[Tensor]) -> Tensors:
    if not isinstance(inputs, dict):
        if len(wanted) > 1:
            names = ", ".join(tensor.name for tensor in wanted)
            raise RequestError(f"the model has several inputs; 'inputs' must be an object with {names}")
        return {wanted[0].name: _array(inputs, wanted[0])}
    missing = [tensor.name for tensor in wanted if tensor.name not in inputs]
    if missing:
        raise RequestError(f"Missing but required: {{{','.join(missing)}}}. Sent: {{{','.join(sorted(inputs))}}}.")
    return {tensor.name: _array(inputs[tensor.name], tensor) for tensor in wanted}


def _array(value: Any, tensor: Tensor) -> np.ndarray:
    """Nested lists → an array of the tensor's raw dtype; a float is no integer, a string or null no number."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise RequestError(
            f"Encountered list at unexpected size in input {tensor.name!r}: its lists differ in length"
        ) from None
    except OverflowError:
        raise RequestError(f"input {tensor.name!r} holds a number that is too large for {tensor.raw_dtype}") from None
    dtype = tensor.raw_dtype
    if array.size == 0:
        return array.astype(dtype)
    accepted = "iuf" if dtype.kind == "f" else dtype.kind if dtype.kind == "b" else "iu"
    if array.dtype.kind not in accepted:
        raise RequestError(f"JSON Value: input {tensor.name!r} holds {_content(array)}; expected type: {dtype}")
    if dtype.kind in "iu":
        low, high = _limits(dtype)
        if np.minimum.reduce(array, axis=None) < low or np.maximum.reduce(array, axis=None) > high:
            raise RequestError(f"input {tensor.name!r} holds a number that is too large for {dtype}")
        return array.astype(dtype)
    with np.errstate(over="ignore"):  # 1e39 becomes infinity, as in TF Serving
        return array.astype(dtype)


@lru_cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _content(array: np.ndarray) -> str:
    names = {
        "U": "a string",
        "b": "a boolean",
        "f": "a number with a fraction",
        "O": "null, an object or a huge number",
    }
    return names.get(array.dtype.kind, str(array.dtype))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return "an empty list" if value == [] else names.get(type(value), "a number")
