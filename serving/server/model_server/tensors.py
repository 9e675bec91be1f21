"""TensorProto ↔ NumPy: the common dtypes, as ``tensor_content`` and as typed fields.

Like TensorFlow's own decoder (tensorflow/core/framework/tensor.cc, FromProto): fewer typed values than the shape asks
for repeat the last one, none are zeros, surplus ones are dropped; a ``tensor_content`` of a wrong size is an error.
Strings are object arrays of bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np

from model_server.errors import invalid
from model_server.protos import TensorProto

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Kind(NamedTuple):
    """One dtype: its enum value, TensorFlow's name, NumPy's dtype, and the typed field that holds its values."""

    enum: int
    name: str
    dtype: np.dtype
    field: str


KINDS = tuple(
    Kind(enum, name, np.dtype(dtype), field)
    for enum, name, dtype, field in (
        (1, "float", np.float32, "float_val"),
        (2, "double", np.float64, "double_val"),
        (3, "int32", np.int32, "int_val"),
        (4, "uint8", np.uint8, "int_val"),
        (5, "int16", np.int16, "int_val"),
        (6, "int8", np.int8, "int_val"),
        (7, "string", object, "string_val"),
        (8, "complex64", np.complex64, "scomplex_val"),
        (9, "int64", np.int64, "int64_val"),
        (10, "bool", np.bool_, "bool_val"),
        (14, "bfloat16", ml_dtypes.bfloat16, "half_val"),
        (17, "uint16", np.uint16, "int_val"),
        (18, "complex128", np.complex128, "dcomplex_val"),
        (19, "half", np.float16, "half_val"),
        (22, "uint32", np.uint32, "uint32_val"),
        (23, "uint64", np.uint64, "uint64_val"),
    )
)
BY_ENUM = {kind.enum: kind for kind in KINDS}
BY_DTYPE = {kind.dtype: kind for kind in KINDS}
# More elements than this are refused before anything is allocated (2 GiB of float32, the largest message there is).
MAX_ELEMENTS = 1 << 29
MAX_RANK = 64  # NumPy's limit
# A shape alone, without its values, makes no more elements than this: a request of 30 bytes should not take gigabytes.
MAX_FILLED = 1 << 24
# Beside a dimension of 0 the others are bounded too: [500 million, 0] has no elements, but as many rows.
MAX_BESIDE_ZERO = 1 << 20
# Field numbers of TensorProto whose packed form on the wire is the array's own little-endian memory.
_ONE_BYTE = [bytes([value]) for value in range(0x80)]
_PACKED_TAG = {np.dtype(np.float32): b"\x2a", np.dtype(np.float64): b"\x32"}


def from_proto(tensor: Any, alias: str) -> NDArray:
    """Decode a TensorProto. ``alias`` is the input's name, for the message. Raises ServingError INVALID_ARGUMENT."""
    kind = BY_ENUM.get(tensor.dtype)
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    if kind is None or tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"tensor parsing error: {alias}")
    count = math.prod(shape)
    if count > MAX_ELEMENTS or len(shape) > MAX_RANK:
        raise invalid(f"tensor parsing error: {alias}")
    if not count and math.prod(filter(None, shape)) > MAX_BESIDE_ZERO:
        raise invalid(f"tensor parsing error: {alias}")
    content = tensor.tensor_content
    if content and kind.enum != 7:
        if len(content) != count * kind.dtype.itemsize:
            raise invalid(f"tensor parsing error: {alias}")
        return np.frombuffer(content, kind.dtype).reshape(shape)
    values = getattr(tensor, kind.field)
    if kind.field == "half_val":
        array = np.array(values, np.uint16).view(kind.dtype)
    elif kind.field in ("scomplex_val", "dcomplex_val"):
        parts = np.array(values, kind.dtype.type(0).real.dtype)
        array = parts[: len(parts) // 2 * 2].view(kind.dtype)
    elif kind.enum == 7:
        array = np.empty(len(values), object)
        array[:] = list(values)
    elif kind.field == "int_val":
        array = np.array(values, np.int32).astype(kind.dtype, copy=False)
    else:
        array = np.array(values, kind.dtype)
    if len(array) != count:
        if count > max(MAX_FILLED, len(array)):
            raise invalid(f"tensor parsing error: {alias}")
        array = _fit(array, count, kind)
    return array.reshape(shape)


def _fit(array: NDArray, count: int, kind: Kind) -> NDArray:
    if len(array) > count:
        return array[:count]
    filler = array[-1] if len(array) else (b"" if kind.enum == 7 else kind.dtype.type(0))
    fitted = np.empty(count, kind.dtype)
    fitted[: len(array)] = array
    fitted[len(array) :] = filler
    return fitted


def to_proto(array: NDArray, tensor: Any, *, as_content: bool = False) -> None:
    """Fill a TensorProto with ``array``: typed fields, as TF Serving answers, or ``tensor_content``."""
    kind = BY_DTYPE[array.dtype]
    tensor.dtype = kind.enum
    shape = tensor.tensor_shape
    shape.SetInParent()
    for size in array.shape:
        shape.dim.add().size = size
    if as_content and kind.enum != 7:
        tensor.tensor_content = array.tobytes()
        return
    tag = _PACKED_TAG.get(array.dtype)
    if tag is not None and array.size > 16:
        # A packed field is a tag, a length and the values: parsing those bytes costs less than 17 Python floats.
        data = array.tobytes()
        tensor.MergeFromString(tag + varint(len(data)) + data)
        return
    flat = array.ravel()
    if kind.field == "half_val":
        flat = flat.view(np.uint16)
    elif kind.field in ("scomplex_val", "dcomplex_val"):
        flat = flat.view(kind.dtype.type(0).real.dtype)
    getattr(tensor, kind.field).extend(flat.tolist())


def tensor_bytes(array: NDArray, *, as_content: bool = False) -> bytes:
    """A serialized TensorProto. Floats are written without the message in between: half of what an answer cost."""
    tag = _PACKED_TAG.get(array.dtype)
    if tag is None or as_content:
        tensor = TensorProto()
        to_proto(array, tensor, as_content=as_content)
        return tensor.SerializeToString()
    head = _head(BY_DTYPE[array.dtype].enum, array.shape)
    data = array.tobytes()
    return head + tag + varint(len(data)) + data if data else head


@lru_cache(maxsize=1024)
def _head(enum: int, shape: tuple[int, ...]) -> bytes:
    """The dtype (field 1) and shape (field 2) of a TensorProto."""
    tensor = TensorProto(dtype=enum)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    return tensor.SerializeToString()


def delimited(tag: bytes, data: bytes) -> bytes:
    """A length-delimited field: its tag, its length, its bytes."""
    return tag + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Protobuf's base-128 encoding of a non-negative integer."""
    if value <= 0x7F:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
