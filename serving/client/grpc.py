"""TF Serving's gRPC API with grpcio and the message descriptors in ``tensorflow_serving.binpb``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from serving.client.errors import ClientError, Refused, TimedOut, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray]

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    Path(__file__).with_name("tensorflow_serving.binpb").read_bytes()
).file:
    _POOL.Add(_file)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tensorflow.serving.{name}"))


_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_METHODS = {
    "Predict": (_PREDICTION, _message("PredictRequest"), _message("PredictResponse")),
    "GetModelMetadata": (_PREDICTION, _message("GetModelMetadataRequest"), _message("GetModelMetadataResponse")),
    "GetModelStatus": (_MODEL, _message("GetModelStatusRequest"), _message("GetModelStatusResponse")),
}
_SIGNATURES = _message("SignatureDefMap")
# tensorflow.DataType → NumPy's dtype and the typed field of TensorProto.
_DTYPES = {
    1: (np.float32, "float_val"), 2: (np.float64, "double_val"), 3: (np.int32, "int_val"), 4: (np.uint8, "int_val"),
    5: (np.int16, "int_val"), 6: (np.int8, "int_val"), 7: (object, "string_val"), 9: (np.int64, "int64_val"),
    10: (np.bool_, "bool_val"), 17: (np.uint16, "int_val"), 19: (np.float16, "half_val"),
    22: (np.uint32, "uint32_val"), 23: (np.uint64, "uint64_val"),
}  # fmt: skip
_ENUMS = {np.dtype(dtype): enum for enum, (dtype, _) in _DTYPES.items()}
_NO_LIMIT = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


class GrpcClient:
    """``address`` is host:port. Thread-safe, a context manager."""

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        self._address = address
        self._timeout = timeout
        self._channel = grpc.insecure_channel(address, _NO_LIMIT)
        self._calls = {
            name: self._channel.unary_unary(
                service + name, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            for name, (service, request, response) in _METHODS.items()
        }

    def predict(
        self,
        model: str,
        inputs: Mapping[str, NDArray],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout: float | None = None,
    ) -> Tensors:
        """One Predict. Raises ClientError."""
        request = _METHODS["Predict"][1]()
        _fill(request.model_spec, model, version, label)
        if signature:
            request.model_spec.signature_name = signature
        for name, array in inputs.items():
            _encode(np.asarray(array), request.inputs[name], name)
        answer = self._call("Predict", request, timeout)
        return {name: _decode(tensor) for name, tensor in answer.outputs.items()}

    def status(self, model: str, *, version: int | None = None, timeout: float | None = None) -> list[dict[str, Any]]:
        """``[{"version", "state", "error_code", "error_message"}]``, highest version first."""
        request = _METHODS["GetModelStatus"][1]()
        _fill(request.model_spec, model, version, None)
        rows = self._call("GetModelStatus", request, timeout).model_version_status
        return [
            {
                "version": row.version,
                "state": _enum_name(row, "state"),
                "error_code": _enum_name(row.status, "error_code"),
                "error_message": row.status.error_message,
            }
            for row in rows
        ]

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """``{"model_spec": …, "signatures": {name: SignatureDef as JSON}}``"""
        request = _METHODS["GetModelMetadata"][1]()
        _fill(request.model_spec, model, version, label)
        request.metadata_field.append("signature_def")
        answer = self._call("GetModelMetadata", request, timeout)
        signatures = _SIGNATURES()
        answer.metadata["signature_def"].Unpack(signatures)
        spec = answer.model_spec
        return {
            "model_spec": {
                "name": spec.name,
                "signature_name": spec.signature_name,
                "version": str(spec.version.value),
            },
            "signatures": json_format.MessageToDict(
                signatures,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
                descriptor_pool=_POOL,
            )["signature_def"],
        }

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(self, method: str, request: Any, timeout: float | None) -> Any:
        limit = timeout or self._timeout
        try:
            return self._calls[method](request, timeout=limit)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or ""
            raise self._error(code, details, limit) from None

    def _error(self, code: str, details: str, limit: float) -> ClientError:
        if code == "DEADLINE_EXCEEDED":
            return TimedOut(self._address, limit)
        if code == "UNAVAILABLE" and ("connect" in details or "Socket closed" in details):
            return Unreachable(self._address, details.splitlines()[0][:200])
        return Refused(code, details)


def _fill(spec: Any, model: str, version: int | None, label: str | None) -> None:
    spec.name = model
    if version is not None:
        spec.version.value = version
    elif label:
        spec.version_label = label


def _encode(array: NDArray, tensor: Any, name: str) -> None:
    if array.dtype.kind in "SU":
        array = array.astype(object)
    enum = _ENUMS.get(array.dtype)
    if enum is None:
        raise ClientError(
            "INVALID_ARGUMENT", f"input {name} is {array.dtype}, which has no TensorProto form; cast it first"
        )
    tensor.dtype = enum
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if array.dtype == object:
        tensor.string_val.extend([v.encode() if isinstance(v, str) else v for v in array.ravel()])
    else:
        tensor.tensor_content = array.tobytes()


def _decode(tensor: Any) -> NDArray:
    dtype, field = _DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = getattr(tensor, field)
    if field == "half_val":
        return np.array(values, np.uint16).view(np.float16).reshape(shape)
    array = np.empty(math.prod(shape), dtype)
    array[:] = list(values)
    return array.reshape(shape)


def _enum_name(message: Any, field: str) -> str:
    return message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name
