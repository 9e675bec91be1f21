"""The gRPC methods: a serialized request and the seconds left → a serialized answer. The transport is in grpc.py."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from model_server import examples, health
from model_server.errors import Code, ServingError, invalid
from model_server.messages import metadata_message, status_message
from model_server.protos import (
    ClassificationResponse,
    ExamplesRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    InferenceTask,
    MultiInferenceRequest,
    MultiInferenceResponse,
    PredictRequest,
    PredictResponse,
    RegressionResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
)
from model_server.reload import reload_config
from model_server.signatures import DEFAULT
from model_server.tensors import delimited, from_proto, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from model_server.core import Core
    from model_server.servable import Servable
    from model_server.signatures import Signature

    Method = Callable[[bytes, float | None], Awaitable[bytes]]


def methods(core: Core) -> dict[str, Method]:
    """Every method that this server answers, by its path."""
    prediction, model = PredictionService(core), ModelService(core)
    found: dict[str, Method] = {
        "/tensorflow.serving.PredictionService/Predict": prediction.predict,
        "/tensorflow.serving.PredictionService/Classify": prediction.classify,
        "/tensorflow.serving.PredictionService/Regress": prediction.regress,
        "/tensorflow.serving.PredictionService/MultiInference": prediction.multi_inference,
        "/tensorflow.serving.PredictionService/GetModelMetadata": prediction.metadata,
        "/tensorflow.serving.ModelService/GetModelStatus": model.status,
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest": model.reload,
    }
    if core.options.enable_grpc_healthcheck_service:
        found["/grpc.health.v1.Health/Check"] = health.check(core)
    return found


class PredictionService:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._as_content = core.options.enable_serialization_as_tensor_content

    async def predict(self, body: bytes, timeout: float | None) -> bytes:
        request = _parse(PredictRequest, body)
        spec = request.model_spec
        servable = find(self._core, request)
        signature = servable.signature(spec.signature_name)
        if signature is None:
            raise ServingError(
                Code.FAILED_PRECONDITION, f'Serving signature key "{spec.signature_name or DEFAULT}" not found.'
            )
        servable.check_names(signature, request.inputs)
        inputs = {name: from_proto(tensor, name) for name, tensor in request.inputs.items()}
        outputs = servable.choose_outputs(signature, request.output_filter)
        results = await self._core.predict(servable, signature, inputs, outputs, timeout)
        # A PredictResponse: the map of outputs is field 1, the model_spec field 2.
        fields = [_output(name, tensor_bytes(array, as_content=self._as_content)) for name, array in results.items()]
        return b"".join([*fields, _spec_field(servable.name, servable.version, signature.name)])

    async def classify(self, body: bytes, timeout: float | None) -> bytes:
        return await self._one(body, timeout, examples.CLASSIFY, ClassificationResponse())

    async def regress(self, body: bytes, timeout: float | None) -> bytes:
        return await self._one(body, timeout, examples.REGRESS, RegressionResponse())

    async def _one(self, body: bytes, timeout: float | None, method: str, answer: Any) -> bytes:
        request = _parse(ExamplesRequest, body)
        servable = find(self._core, request)
        task = examples.single(servable, request.model_spec.signature_name, method)
        inputs = examples.feed(request.input)
        outputs = await self._core.predict(servable, task.signature, inputs, task.outputs, timeout)
        _fill_spec(answer.model_spec, servable, task.signature)
        examples.fill(answer.result, examples.read(task, outputs, len(inputs[examples.INPUT])))
        return answer.SerializeToString()

    async def multi_inference(self, body: bytes, timeout: float | None) -> bytes:
        """The first task's model_spec says which version answers them all, as in TF Serving."""
        request = _parse(MultiInferenceRequest, body)
        first = request.tasks[0] if request.tasks else InferenceTask()
        servable = find(self._core, first)
        tasks = examples.several(servable, request.tasks)
        inputs = examples.feed(request.input)
        calls = [self._core.predict(servable, task.signature, inputs, task.outputs, timeout) for task in tasks]
        answer = MultiInferenceResponse()
        for task, outputs in zip(tasks, await asyncio.gather(*calls), strict=True):
            result = answer.results.add()
            _fill_spec(result.model_spec, servable, task.signature)
            of_its_kind = result.classification_result if task.method == examples.CLASSIFY else result.regression_result
            examples.fill(of_its_kind, examples.read(task, outputs, len(inputs[examples.INPUT])))
        return answer.SerializeToString()

    async def metadata(self, body: bytes, timeout: float | None) -> bytes:
        request = _parse(GetModelMetadataRequest, body)
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        return metadata_message(find(self._core, request)).SerializeToString()


class ModelService:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def status(self, body: bytes, timeout: float | None) -> bytes:
        request = _parse(GetModelStatusRequest, body)
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        return status_message(self._core.manager.status(spec.name, version)).SerializeToString()

    async def reload(self, body: bytes, timeout: float | None) -> bytes:
        await reload_config(self._core.manager, _parse(ReloadConfigRequest, body).config, timeout)
        answer = ReloadConfigResponse()
        answer.status.SetInParent()
        return answer.SerializeToString()


def _output(name: str, tensor: bytes) -> bytes:
    return delimited(b"\x0a", delimited(b"\x0a", name.encode()) + delimited(b"\x12", tensor))


@lru_cache(maxsize=1024)
def _spec_field(model: str, version: int, signature: str) -> bytes:
    answer = PredictResponse()
    answer.model_spec.name, answer.model_spec.signature_name = model, signature
    answer.model_spec.version.value = version
    return answer.SerializeToString()


def find(core: Core, request: Any) -> Servable:
    """The servable that a request's model_spec means. Raises ServingError."""
    spec = request.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    return core.manager.find(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _fill_spec(spec: Any, servable: Servable, signature: Signature) -> None:
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature.name


def _parse(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise ServingError(Code.INTERNAL, "the request cannot be parsed as a protobuf message") from None
