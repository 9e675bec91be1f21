"""gRPC server reflection (v1 and v1alpha): which services there are, and their descriptors, for grpcurl and its like.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. The descriptors of TF Serving's messages are those of
``tensorflow_serving.binpb``; its services, health and reflection itself are described here.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from model_server.errors import Code, ServingError
from model_server.protos import FILES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from model_server.grpc_frames import Requests

_FIELD = descriptor_pb2.FieldDescriptorProto
# Each method's request and answer; "stream" before either where it is one.
_TYPES = {
    "tensorflow.serving.PredictionService": {
        "Predict": "PredictRequest → PredictResponse",
        "Classify": "ClassificationRequest → ClassificationResponse",
        "Regress": "RegressionRequest → RegressionResponse",
        "MultiInference": "MultiInferenceRequest → MultiInferenceResponse",
        "GetModelMetadata": "GetModelMetadataRequest → GetModelMetadataResponse",
    },
    "tensorflow.serving.ModelService": {
        "GetModelStatus": "GetModelStatusRequest → GetModelStatusResponse",
        "HandleReloadConfigRequest": "ReloadConfigRequest → ReloadConfigResponse",
    },
    "grpc.health.v1.Health": {
        "Check": "HealthCheckRequest → HealthCheckResponse",
        "Watch": "HealthCheckRequest → stream HealthCheckResponse",
    },
    "grpc.reflection.v1.ServerReflection": {
        "ServerReflectionInfo": "stream ServerReflectionRequest → stream ServerReflectionResponse"
    },
    "grpc.reflection.v1alpha.ServerReflection": {
        "ServerReflectionInfo": "stream ServerReflectionRequest → stream ServerReflectionResponse"
    },
}
_FILE_NAMES = {
    "tensorflow.serving.PredictionService": "tensorflow_serving/apis/prediction_service.proto",
    "tensorflow.serving.ModelService": "tensorflow_serving/apis/model_service.proto",
    "grpc.health.v1.Health": "grpc/health/v1/health.proto",
    "grpc.reflection.v1.ServerReflection": "grpc/reflection/v1/reflection.proto",
    "grpc.reflection.v1alpha.ServerReflection": "grpc/reflection/v1alpha/reflection.proto",
}
# "number name type", "+" before what is repeated, "|" before the members of the message's one oneof.
_MESSAGES = {
    "grpc.health.v1": {
        "HealthCheckRequest": ["1 service string"],
        "HealthCheckResponse": ["1 status ServingStatus"],
    },
    "grpc.reflection": {
        "ServerReflectionRequest": [
            "1 host string", "|3 file_by_filename string", "|4 file_containing_symbol string",
            "|5 file_containing_extension ExtensionRequest", "|6 all_extension_numbers_of_type string",
            "|7 list_services string",
        ],
        "ExtensionRequest": ["1 containing_type string", "2 extension_number int32"],
        "ServerReflectionResponse": [
            "1 valid_host string", "2 original_request ServerReflectionRequest",
            "|4 file_descriptor_response FileDescriptorResponse",
            "|5 all_extension_numbers_response ExtensionNumberResponse",
            "|6 list_services_response ListServiceResponse", "|7 error_response ErrorResponse",
        ],
        "FileDescriptorResponse": ["+1 file_descriptor_proto bytes"],
        "ExtensionNumberResponse": ["1 base_type_name string", "+2 extension_number int32"],
        "ListServiceResponse": ["+1 service ServiceResponse"],
        "ServiceResponse": ["1 name string"],
        "ErrorResponse": ["1 error_code int32", "2 error_message string"],
    },
}  # fmt: skip
_SCALARS = {"string": _FIELD.TYPE_STRING, "bytes": _FIELD.TYPE_BYTES, "int32": _FIELD.TYPE_INT32}


class Reflection:
    """``paths`` are the methods that the server answers, ``/package.Service/Method``."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._methods: dict[str, list[str]] = {}
        own = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]
        for path in [*paths, *own]:
            service, method = path[1:].split("/")
            self._methods.setdefault(service, []).append(method)

    def streams(self) -> dict[str, Callable[[Requests], AsyncIterator[bytes]]]:
        return {
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": self._stream(version)
            for version in ("v1", "v1alpha")
        }

    def _stream(self, version: str) -> Callable[[Requests], AsyncIterator[bytes]]:
        async def answers(requests: Requests) -> AsyncIterator[bytes]:
            async for message in requests:
                yield self._answer(version, message)

        return answers

    def _answer(self, version: str, message: bytes) -> bytes:
        try:
            request = self._class(version, "ServerReflectionRequest").FromString(message)
        except DecodeError:
            raise ServingError(Code.INTERNAL, "the request cannot be parsed as a protobuf message") from None
        answer = self._class(version, "ServerReflectionResponse")(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in sorted(self._methods):
                answer.list_services_response.service.add(name=name)
        else:
            try:
                self._look_up(kind, request, answer)
            except KeyError as error:
                answer.error_response.error_code = int(Code.NOT_FOUND)
                answer.error_response.error_message = str(error.args[0])
        return answer.SerializeToString()

    def _look_up(self, kind: str | None, request: Any, answer: Any) -> None:
        """Raises KeyError."""
        if kind == "file_by_filename":
            file = self._pool.FindFileByName(request.file_by_filename)
        elif kind == "file_containing_symbol":
            file = self._pool.FindFileContainingSymbol(request.file_containing_symbol)
        elif kind == "all_extension_numbers_of_type":  # proto3 has no extensions
            message = self._pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
            answer.all_extension_numbers_response.base_type_name = message.full_name
            return
        else:
            raise KeyError("there are no extensions here")
        found: dict[str, bytes] = {}
        _with_dependencies(file, found)
        answer.file_descriptor_response.file_descriptor_proto.extend(found.values())

    def _class(self, version: str, name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"grpc.reflection.{version}.{name}"))

    @cached_property
    def _pool(self) -> descriptor_pool.DescriptorPool:
        """Made when it is first asked for: few servers ever are."""
        pool = descriptor_pool.DescriptorPool()
        for file in FILES:
            pool.Add(file)
        for service, methods in self._methods.items():
            if service in _TYPES:
                pool.Add(_service_file(service, methods, pool))
        return pool


def _with_dependencies(file: Any, found: dict[str, bytes]) -> None:
    if file.name not in found:
        found[file.name] = file.serialized_pb
        for dependency in file.dependencies:
            _with_dependencies(dependency, found)


def _service_file(service: str, methods: list[str], pool: descriptor_pool.DescriptorPool) -> Any:
    package, name = service.rsplit(".", 1)
    file = descriptor_pb2.FileDescriptorProto(name=_FILE_NAMES[service], package=package, syntax="proto3")
    for message, fields in (_MESSAGES.get(package) or _MESSAGES.get(package.rsplit(".", 1)[0]) or {}).items():
        _add_message(file, message, fields)
    described = file.service.add(name=name)
    for method in methods:
        taken, given = (side.strip() for side in _TYPES[service][method].split("→"))
        entry = described.method.add(name=method)
        entry.client_streaming, entry.server_streaming = taken.startswith("stream"), given.startswith("stream")
        entry.input_type, entry.output_type = (f".{package}.{side.removeprefix('stream ')}" for side in (taken, given))
        for side in (entry.input_type, entry.output_type) if not file.message_type else ():
            source = pool.FindMessageTypeByName(side[1:]).file.name
            if source not in file.dependency:
                file.dependency.append(source)
    return file


def _add_message(file: Any, name: str, fields: list[str]) -> None:
    message = file.message_type.add(name=name)
    for text in fields:
        number, field_name, kind = text.lstrip("+|").split()
        field = message.field.add(name=field_name, number=int(number))
        field.label = _FIELD.LABEL_REPEATED if text[0] == "+" else _FIELD.LABEL_OPTIONAL
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        elif kind == "ServingStatus":
            field.type, field.type_name = _FIELD.TYPE_ENUM, f".{file.package}.{name}.{kind}"
            values = message.enum_type.add(name=kind)
            for value, label in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
                values.value.add(name=label, number=value)
        else:
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{file.package}.{kind}"
        if text[0] == "|":
            if not message.oneof_decl:
                message.oneof_decl.add(name=name.replace("ServerReflection", "message_").lower())
            field.oneof_index = 0
