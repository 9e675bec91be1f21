"""TensorProto ↔ NumPy, written as ``tf.make_tensor_proto`` writes it (tensorflow/python/framework/tensor_util.py).

Strings are object arrays of bytes. bfloat16 needs the package ml_dtypes, imported when such a tensor arrives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.client.errors import ClientError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Kind(NamedTuple):
    """A tensorflow.DataType: its name in REST metadata, NumPy's name, the typed field, and one value's type there."""

    name: str
    dtype: str
    field: str


KINDS = {
    1: Kind("DT_FLOAT", "float32", "float_val"),
    2: Kind("DT_DOUBLE", "float64", "double_val"),
    3: Kind("DT_INT32", "int32", "int_val"),
    4: Kind("DT_UINT8", "uint8", "int_val"),
    5: Kind("DT_INT16", "int16", "int_val"),
    6: Kind("DT_INT8", "int8", "int_val"),
    7: Kind("DT_STRING", "object", "string_val"),
    8: Kind("DT_COMPLEX64", "complex64", "scomplex_val"),
    9: Kind("DT_INT64", "int64", "int64_val"),
    10: Kind("DT_BOOL", "bool", "bool_val"),
    14: Kind("DT_BFLOAT16", "bfloat16", "half_val"),
    17: Kind("DT_UINT16", "uint16", "int_val"),
    18: Kind("DT_COMPLEX128", "complex128", "dcomplex_val"),
    19: Kind("DT_HALF", "float16", "half_val"),
    22: Kind("DT_UINT32", "uint32", "uint32_val"),
    23: Kind("DT_UINT64", "uint64", "uint64_val"),
}
_ENUMS = {kind.dtype: enum for enum, kind in KINDS.items()}
# What TensorFlow writes value by value, whatever the size.
_NEVER_CONTENT = {"object", "bool", "uint16", "complex64", "complex128"}


def encode(array: NDArray, tensor: Any, name: str) -> None:
    """Fill a TensorProto. Raises ClientError when the dtype has no form there; ``name`` is the input's."""
    if array.dtype.kind in "SU":
        array = array.astype(object)
    dtype = array.dtype.name
    enum = _ENUMS.get(dtype)
    if enum is None:
        raise ClientError("INVALID_ARGUMENT", f"input {name} is {dtype}, which has no TensorProto form; cast it first")
    tensor.dtype = enum
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if array.size > 1 and dtype not in _NEVER_CONTENT:
        tensor.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    else:
        getattr(tensor, KINDS[enum].field).extend(_values(array.ravel(), dtype, name))


def _values(flat: NDArray, dtype: str, name: str) -> list[Any]:
    """What the typed field holds: half floats as their bits, complex numbers as pairs, strings as bytes."""
    if dtype in ("float16", "bfloat16"):
        return flat.view(np.uint16).tolist()
    if dtype.startswith("complex"):
        return flat.view(flat.real.dtype).tolist()
    if dtype == "object":
        return [string_bytes(value, name) for value in flat]
    return flat.tolist()


def string_bytes(value: Any, name: str) -> bytes:
    """One string of an input. Raises ClientError for what is neither text nor bytes."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise ClientError(
        "INVALID_ARGUMENT", f"input {name} holds {type(value).__name__}, where text or bytes belong; cast it first"
    )


def decode(tensor: Any) -> NDArray:
    """A TensorProto's values; read-only where they are its bytes. Raises ClientError for a dtype without NumPy form."""
    kind = KINDS.get(tensor.dtype)
    if kind is None:
        raise ClientError("UNIMPLEMENTED", f"the answer has the tensorflow.DataType {tensor.dtype}, unknown to NumPy")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, numpy_dtype(kind.dtype)).reshape(shape)
    values = list(getattr(tensor, kind.field))
    if kind.field == "half_val":
        return _filled(values, np.dtype(np.uint16), shape).view(numpy_dtype(kind.dtype))
    if kind.dtype.startswith("complex"):
        values = [complex(real, imaginary) for real, imaginary in zip(values[::2], values[1::2], strict=True)]
    return _filled(values, numpy_dtype(kind.dtype), shape)


def _filled(values: list[Any], dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
    """``values`` in that shape; TensorFlow may leave out repetitions of the last one, and all of them when they are zero."""
    array = np.full(math.prod(shape), b"", object) if dtype.hasobject else np.zeros(math.prod(shape), dtype)
    if values:
        array[: len(values)] = values
        array[len(values) :] = values[-1]
    return array.reshape(shape)


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's dtype of that name. Raises ClientError for bfloat16 where ml_dtypes is not installed."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ClientError(
            "UNIMPLEMENTED", "NumPy has no bfloat16 of its own; install ml_dtypes to receive it"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)
