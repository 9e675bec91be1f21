"""Serialized tf.Examples → dense features, as ``tf.io.parse_example`` reads FixedLenFeatures, without TensorFlow.

The rules and words are those of tensorflow/core/util/example_proto_fast_parsing.cc: of two features of a name the last
counts, a feature that nobody asked for is not looked into, an empty one is missing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from model_server.errors import invalid
from model_server.protos import FloatList, Int64List, UnparsedExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message
    from numpy.typing import NDArray

# The first byte of a Feature tells its list: field number << 3 | 2. TensorFlow's names of what is in them.
_BYTES, _FLOATS, _INT64S = 0x0A, 0x12, 0x1A
_TYPES = {_BYTES: "string", _FLOATS: "float", _INT64S: "int64"}
_PACKED = 0x0A  # the first byte of a list of numbers, where they are packed
LISTS = {"float32": _FLOATS, "int64": _INT64S}  # the dtypes that a dense feature can have here


class Feature(NamedTuple):
    """``shape`` is a row's."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def parse(examples: NDArray, features: Sequence[Feature]) -> dict[str, NDArray]:
    """Serialized Examples [N] → each feature [N, *shape]. Raises ServingError INVALID_ARGUMENT."""
    columns = [np.empty((len(examples), math.prod(feature.shape)), feature.dtype) for feature in features]
    names = [feature.name.encode() for feature in features]
    for index, data in enumerate(examples.tolist()):
        try:
            sent = _features(data)
        except DecodeError:
            raise invalid(f"Could not parse example input, value: '{data.decode('utf-8', 'replace')}'") from None
        for feature, name, column in zip(features, names, columns, strict=True):
            if name not in sent:
                raise invalid(
                    f"Name: <unknown>, Feature: {feature.name} (data type: {_TYPES[LISTS[feature.dtype]]}) "
                    "is required but could not be found."
                )
            values = _values(sent[name], feature, index)
            if len(values) != column.shape[1]:
                raise invalid(
                    f"{_where(feature, index)}  Number of {_TYPES[LISTS[feature.dtype]]} values != expected.  "
                    f"Values size: {len(values)} but output shape: {str(list(feature.shape)).replace(' ', '')}"
                )
            column[index] = values
    rows = len(examples)
    return {f.name: column.reshape(rows, *f.shape) for f, column in zip(features, columns, strict=True)}


def _features(data: bytes) -> dict[bytes, bytes]:
    """The serialized Features of an Example that are not empty, by name. Raises DecodeError."""
    sent = {}
    for entry in UnparsedExample.FromString(data).features.feature:
        if not (entry.HasField("key") and entry.HasField("value")):
            raise DecodeError("a feature without its name or its value")
        if entry.value:
            sent[entry.key] = entry.value
    return sent


def _values(data: bytes, feature: Feature, index: int) -> Sequence[float] | NDArray:
    """The numbers of one serialized Feature."""
    kind, expected = data[0], LISTS[feature.dtype]
    if kind not in _TYPES:
        raise invalid("Unsupported datatype.")
    if kind != expected:
        raise invalid(
            f"{_where(feature, index)}  Data types don't match. "
            f"Data type: {_TYPES[kind]} but expected type: {_TYPES[expected]}"
        )
    try:
        size, start = _varint(data, 1)
        if kind == _FLOATS and size and data[start] == _PACKED:
            # The array's own memory: a Python float for each value would cost more than all the rest.
            packed, first = _varint(data, start + 1)
            if first + packed > min(start + size, len(data)):
                raise ValueError("it ends behind its list")
            return np.frombuffer(data[first : first + packed], "<f4")
        found: Message = (FloatList if kind == _FLOATS else Int64List).FromString(data[start : start + size])
        return found.value  # type: ignore[attr-defined]
    except (DecodeError, IndexError, ValueError):
        raise invalid(f"{_where(feature, index)}  Can't parse serialized Example.") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Protobuf's base-128 number at a position, and the position behind it. Raises IndexError or ValueError where it has no end."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:  # ten bytes are the most; a megabyte of them would be added up for hours
            raise ValueError("a number without an end")


def _where(feature: Feature, index: int) -> str:
    return f"Name: <unknown>, Key: {feature.name}, Index: {index}."
