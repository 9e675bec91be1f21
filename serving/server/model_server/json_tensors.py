"""JSON values ↔ tensors, in TF Serving's row and column format (tensorflow_serving/util/json_tensor.cc).

The quick way hands a nested list to NumPy at once. Where NumPy would be more lenient than TF Serving, or the value does
not fit, the careful way walks it and words the error as TF Serving does.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import numpy as np

from model_server.errors import Code, ServingError, invalid
from model_server.json_parse import debug_string
from model_server.tensors import BY_ENUM, MAX_RANK, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# The dtypes that REST takes; the rest is answered with UNIMPLEMENTED, as TF Serving does.
_TAKEN = {"float", "double", "int32", "uint8", "int16", "int8", "string", "int64", "bool", "uint32", "uint64"}
_CONVERTED_AS = {"int8": "int32", "int16": "int32", "uint8": "int32"}
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}


def tensor_of(value: Any, kind: Kind, *, bools: bool = True) -> NDArray:
    """One JSON value (a scalar or nested lists) → an array; ``bools`` as for ``rows``. Raises ServingError with TF Serving's message."""
    array = _quick(value, kind, bools)
    if array is not None:
        return array
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        if not level:
            break
        level = level[0]
    if len(shape) > MAX_RANK:
        raise invalid(f"lists are nested {len(shape)} deep, and no tensor has more than {MAX_RANK} dimensions")
    flat: list[Any] = []
    _walk(value, 0, shape, kind, flat)
    array = np.empty(len(flat), kind.dtype)
    if kind.name in _CONVERTED_AS:
        array[:] = np.array(flat, np.int64).astype(kind.dtype)  # 300 wraps to 44 in an int8, as it does there
    else:
        with np.errstate(over="ignore"):
            array[:] = flat
    return array.reshape(shape)


def _quick(value: Any, kind: Kind, bools: bool) -> NDArray | None:
    if kind.name not in ("float", "double", "int32", "int64"):
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    found = array.dtype.kind
    if found == "f" or (found == "i" and kind.dtype.kind == "f"):
        # NumPy turns True into 1.0 beside other numbers; TF Serving refuses it.
        if kind.dtype.kind != "f" or array.size == 0 or (bools and _has_bool(value)):
            return None
        with np.errstate(over="ignore"):
            return array.astype(kind.dtype)
    if found == "i" and array.size and not (bools and _has_bool(value)):
        if kind.name == "int32" and (array.min() < -(1 << 31) or array.max() >= 1 << 31):
            return None
        return array.astype(kind.dtype, copy=False)
    return None


def _has_bool(value: Any) -> bool:
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return any(map(_has_bool, value))
        return bool in set(map(type, value))
    return isinstance(value, bool)


def _walk(value: Any, level: int, shape: list[int], kind: Kind, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {debug_string(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_scalar(value, kind))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _walk(item, level + 1, shape, kind, flat)


def _scalar(value: Any, kind: Kind) -> Any:
    if isinstance(value, dict):
        return _base64(value, kind)
    if kind.name not in _TAKEN:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {debug_string(value)} to type: {kind.name}")
    wanted = _CONVERTED_AS.get(kind.name, kind.name)
    if wanted == "string":
        if isinstance(value, str):
            try:
                return value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # half a surrogate pair
                raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    elif wanted == "bool":
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif wanted in ("float", "double"):
        if isinstance(value, (int, float)):
            return value
    elif isinstance(value, int) and _RANGES[wanted][0] <= value <= _RANGES[wanted][1]:
        return value
    raise invalid(f"JSON Value: {debug_string(value)} Type: {json_type(value)} is not of expected type: {kind.name}")


def _base64(value: dict[str, Any], kind: Kind) -> bytes:
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise invalid(f"JSON Value: {debug_string(value)} not formatted correctly for base64 data")
    if kind.name != "string":
        raise invalid(f"JSON Value: {debug_string(value)} Type: Object is not of expected type: {kind.name}")
    return decode_base64(value["b64"])


def decode_base64(text: str) -> bytes:
    """With or without padding. Raises ServingError INVALID_ARGUMENT."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def json_type(value: Any) -> str:
    names = {type(None): "Null", bool: "False", dict: "Object", list: "Array", str: "String"}
    if value is True:
        return "True"
    return names.get(type(value), "Number")


def _kind(enum: int) -> Kind:
    if enum not in BY_ENUM:  # a resource or a quantized type
        raise ServingError(Code.UNIMPLEMENTED, f"REST takes no inputs of DataType {enum}; ask by gRPC")
    return BY_ENUM[enum]


def is_base64_object(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and "b64" in value


def columns(value: Any, inputs: Mapping[str, int], *, bools: bool = True) -> dict[str, NDArray]:
    """Column format: the value of ``inputs`` → tensors. ``inputs`` maps each input's name to its DataType."""
    if isinstance(value, dict) and not is_base64_object(value):
        tensors = {}
        for name, enum in inputs.items():
            if name not in value:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
            tensors[name] = tensor_of(value[name], _kind(enum), bools=bools)
        return tensors
    if len(inputs) > 1:
        raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required")
    (name,) = inputs
    return {name: tensor_of(value, _kind(inputs[name]), bools=bools)}


def rows(request: Mapping[str, Any], inputs: Mapping[str, int], *, bools: bool = True) -> dict[str, NDArray]:
    """Row format: the value of ``instances`` → tensors with the batch axis first. ``bools``: whether the body may hold any."""
    value = request["instances"]
    if not isinstance(value, list):
        raise invalid(f"JSON Value: {debug_string(request)} Expecting 'instances' to be an list/array")
    if not value:
        raise invalid("No values in 'instances' list.")
    as_objects = isinstance(value[0], dict) and not is_base64_object(value[0])
    if not as_objects and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    if not as_objects:
        (name,) = inputs
        array = _quick(value, _kind(inputs[name]), bools)
        if array is not None:
            return {name: array}
        return {name: _stack(value, name, inputs)}
    names = list(value[0])
    for index, item in enumerate(value):
        if not isinstance(item, dict) or is_base64_object(item):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        for name in item:
            if name not in inputs:
                raise invalid(
                    f"Failed to process element: {index} key: {name} of 'instances' list. "
                    f"Error: INVALID_ARGUMENT: JSON object: does not have named input: {name}"
                )
        if item.keys() != value[0].keys():
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_string(item)} "
                f"keys must be equal to: {','.join(sorted(names))}"
            )
    tensors = {}
    for name in names:
        column = [item[name] for item in value]
        array = _quick(column, _kind(inputs[name]), bools)
        tensors[name] = array if array is not None else _stack(column, name, inputs, named=True)
    return tensors


def _stack(items: list[Any], name: str, inputs: Mapping[str, int], *, named: bool = False) -> NDArray:
    kind = _kind(inputs[name])
    first: NDArray | None = None
    arrays = []
    for index, item in enumerate(items):
        try:
            if not named and isinstance(item, dict) and not is_base64_object(item) and kind.name != "string":
                raise invalid(f"Expecting value/list but got object at item {index} of input list")
            array = tensor_of(item, kind)
            if first is None:
                first = array
            elif array.size != first.size:
                raise invalid(f"Expecting tensor size: {first.size} but got: {array.size}")
            elif array.shape != first.shape:
                raise invalid(f"Expecting shape {_shape(first)} but got: {_shape(array)}")
        except ServingError as error:
            key = f" key: {name}" if named else ""
            raise ServingError(
                error.code,
                f"Failed to process element: {index}{key} of 'instances' list. "
                f"Error: {error.code.name}: {error.message}",
            ) from None
        arrays.append(array)
    return np.stack(arrays)


def _shape(array: NDArray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"
