"""TF Serving's gRPC API with grpcio, which is imported when the first client is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from serving.client.api import DEFAULT_TIMEOUT_S, AsyncClient, Client, Spec, Which
from serving.client.errors import ClientError, Refused, TimedOut, Unreachable
from serving.client.examples import fill_input
from serving.client.messages import enum_name, message, parse_config, pool
from serving.client.tensors import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from serving.client.api import Rows, Tensors

    Inference = Literal["classify", "regress"]

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
# The method → its service, and the class of its request and of its answer, named alike.
_METHODS = {
    "Predict": (_PREDICTION, "Predict"),
    "Classify": (_PREDICTION, "Classification"),
    "Regress": (_PREDICTION, "Regression"),
    "MultiInference": (_PREDICTION, "MultiInference"),
    "GetModelMetadata": (_PREDICTION, "GetModelMetadata"),
    "GetModelStatus": (_MODEL, "GetModelStatus"),
    "HandleReloadConfigRequest": (_MODEL, "ReloadConfig"),
}
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


# What grpcio itself says when there is no connection, or no longer one; servers have other words for UNAVAILABLE.
_NO_CONNECTION = ("connect", "errors resolving", "socket closed", "goaway", "broken pipe")


class Question(NamedTuple):
    method: str
    request: Any
    read: Callable[[Any], Any]


class GrpcWording:
    """Questions as TF Serving's request messages."""

    def predict(self, spec: Spec, inputs: Mapping[str, NDArray], outputs: Sequence[str]) -> Question:
        request = _serving("PredictRequest")
        _fill(request.model_spec, spec)
        for name, array in inputs.items():
            encode(np.asarray(array), request.inputs[name], name)
        request.output_filter.extend(outputs)
        return Question("Predict", request, _tensors)

    def classify(self, spec: Spec, examples: Rows, context: Rows | None) -> Question:
        request = _serving("ClassificationRequest")
        _fill(request.model_spec, spec)
        fill_input(request.input, examples, context)
        return Question("Classify", request, lambda answer: _classes(answer.result))

    def regress(self, spec: Spec, examples: Rows, context: Rows | None) -> Question:
        request = _serving("RegressionRequest")
        _fill(request.model_spec, spec)
        fill_input(request.input, examples, context)
        return Question("Regress", request, lambda answer: _values(answer.result))

    def multi_inference(
        self, spec: Spec, examples: Rows, tasks: Mapping[str, Inference], context: Rows | None
    ) -> Question:
        request = _serving("MultiInferenceRequest")
        for signature, method in tasks.items():
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            _fill(task.model_spec, Spec(spec.model, spec.version, spec.label, signature))
        fill_input(request.input, examples, context)
        return Question("MultiInference", request, _results)

    def status(self, spec: Spec) -> Question:
        request = _serving("GetModelStatusRequest")
        _fill(request.model_spec, spec)
        return Question("GetModelStatus", request, _states)

    def metadata(self, spec: Spec) -> Question:
        request = _serving("GetModelMetadataRequest")
        _fill(request.model_spec, spec)
        request.metadata_field.append("signature_def")
        return Question("GetModelMetadata", request, _metadata)

    def reload_config(self, config: str) -> Question:
        request = _serving("ReloadConfigRequest")
        try:
            request.config.CopyFrom(parse_config(config))
        except ValueError as error:
            raise ClientError("INVALID_ARGUMENT", f"no ModelServerConfig in text format: {error}") from None
        return Question("HandleReloadConfigRequest", request, _accepted)


class GrpcClient(Client):
    """``address`` is host:port or unix:/path. Thread-safe, a context manager."""

    _wording = GrpcWording()

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        import grpc

        super().__init__(address, timeout=timeout)
        self._error: Any = grpc.RpcError
        self._channel = grpc.insecure_channel(address, _OPTIONS)
        self._calls = _calls(self._channel)

    def multi_inference(
        self, model: str, examples: Rows, tasks: Mapping[str, Inference], *, context: Rows | None = None, **which: Any
    ) -> dict[str, Tensors | NDArray]:
        """Several classify and regress signatures on the same examples: ``{signature: "classify" | "regress"}`` →
        ``{signature: what that method answers}``."""
        spec = Spec(model, which.get("version"), which.get("label"))
        return self._ask(self._wording.multi_inference(spec, examples, tasks, context), which)

    def reload_config(self, config: str, *, timeout: float | None = None) -> None:
        """HandleReloadConfigRequest with the text of a whole model_config_file. Models that it leaves out are unloaded."""
        self._ask(self._wording.reload_config(config), {"timeout": timeout})

    def close(self) -> None:
        self._channel.close()

    def _ask(self, question: Question, which: Which | dict[str, Any]) -> Any:
        limit = which.get("timeout") or self._timeout
        try:
            return question.read(self._calls[question.method](question.request, timeout=limit))
        except self._error as error:
            raise _error(error, self._address, limit) from None


class AsyncGrpcClient(AsyncClient):
    """As ``GrpcClient``, to be awaited; its channel belongs to the event loop of the first call."""

    _wording = GrpcWording()

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        import grpc

        super().__init__(address, timeout=timeout)
        self._error: Any = grpc.RpcError
        self._channel: Any = None
        self._calls: dict[str, Any] = {}

    async def multi_inference(
        self, model: str, examples: Rows, tasks: Mapping[str, Inference], *, context: Rows | None = None, **which: Any
    ) -> dict[str, Tensors | NDArray]:
        spec = Spec(model, which.get("version"), which.get("label"))
        return await self._ask(self._wording.multi_inference(spec, examples, tasks, context), which)

    async def reload_config(self, config: str, *, timeout: float | None = None) -> None:
        await self._ask(self._wording.reload_config(config), {"timeout": timeout})

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def _ask(self, question: Question, which: Which | dict[str, Any]) -> Any:
        if self._channel is None:
            import grpc.aio

            self._channel = grpc.aio.insecure_channel(self._address, _OPTIONS)
            self._calls = _calls(self._channel)
        limit = which.get("timeout") or self._timeout
        try:
            return question.read(await self._calls[question.method](question.request, timeout=limit))
        except self._error as error:
            raise _error(error, self._address, limit) from None


def _calls(channel: Any) -> dict[str, Any]:
    return {
        method: channel.unary_unary(
            service + method,
            request_serializer=message(f"tensorflow.serving.{kind}Request").SerializeToString,
            response_deserializer=message(f"tensorflow.serving.{kind}Response").FromString,
        )
        for method, (service, kind) in _METHODS.items()
    }


def _serving(name: str) -> Any:
    return message(f"tensorflow.serving.{name}")()


def _error(error: Any, address: str, limit: float) -> ClientError:
    code, details = error.code().name, error.details() or ""
    if code == "DEADLINE_EXCEEDED":
        return TimedOut(address, limit)
    if code == "UNAVAILABLE" and any(sign in details.lower() for sign in _NO_CONNECTION):
        return Unreachable(address, details.splitlines()[0][:200])
    return Refused(code, details)


def _fill(message: Any, spec: Spec) -> None:
    message.name = spec.model
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label:
        message.version_label = spec.label
    if spec.signature:
        message.signature_name = spec.signature


# --- answers ---------------------------------------------------------------------------------------------------------


def _tensors(answer: Any) -> Tensors:
    return {name: decode(tensor) for name, tensor in answer.outputs.items()}


def _classes(result: Any) -> Tensors:
    rows = [row.classes for row in result.classifications]
    return {
        "classes": np.array([[of.label for of in row] for row in rows], str),
        "scores": np.array([[of.score for of in row] for row in rows], np.float32),
    }


def _values(result: Any) -> NDArray:
    return np.array([row.value for row in result.regressions], np.float32)


def _results(answer: Any) -> dict[str, Any]:
    return {
        result.model_spec.signature_name: _classes(result.classification_result)
        if result.WhichOneof("result") == "classification_result"
        else _values(result.regression_result)
        for result in answer.results
    }


def _states(answer: Any) -> list[dict[str, Any]]:
    return [
        {
            "version": row.version,
            "state": enum_name(row, "state"),
            "error_code": enum_name(row.status, "error_code"),
            "error_message": row.status.error_message,
        }
        for row in answer.model_version_status
    ]


def _metadata(answer: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    signatures = _serving("SignatureDefMap")
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
            descriptor_pool=pool(),
        )["signature_def"],
    }


def _accepted(answer: Any) -> None:
    """A refused config may come as an OK answer with an error inside."""
    if answer.status.error_code:
        raise Refused(enum_name(answer.status, "error_code"), answer.status.error_message)
