"""Warm-up: replays ``assets.extra/tf_serving_warmup_requests``, a TFRecord file of PredictionLog, before a version serves.

A request that fails keeps its version from being served; the version's status has the request's own error, as in TF Serving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from model_server import examples
from model_server.errors import Code, ServableError, ServingError
from model_server.protos import ExamplesRequest, MultiInferenceRequest, PredictionLog
from model_server.tensors import from_proto
from model_server.tfrecord import read_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from model_server.servable import Servable
    from model_server.signatures import Signature

MAX_RECORDS = 1000


def warm_up(servable: Servable, iterations: int = 1) -> int:
    """Replay each request ``iterations`` times; returns the number of requests.

    Raises ServableError when the file or a request is bad.
    """
    file = servable.folder / "assets.extra" / "tf_serving_warmup_requests"
    if not file.is_file():
        return 0
    replayed = 0
    try:
        for number, record in enumerate(read_records(file)):
            if number >= MAX_RECORDS:
                raise ServableError(
                    Code.INVALID_ARGUMENT, f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}"
                )
            log = _parse(record, file.name)
            replay = _KINDS.get(log.WhichOneof("log_type"))
            if replay is None:
                raise ServableError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {_number(log)}")
            replayed += replay(servable, log, iterations)
    except ServingError as error:
        if error.code is Code.DATA_LOSS:
            raise ServableError(
                error.code, f"{error.message}. Please verify your warmup data is in TFRecord format."
            ) from None
        raise ServableError(error.code, error.message) from None
    return replayed


def _parse(record: bytes, name: str) -> Any:
    try:
        return PredictionLog.FromString(record)
    except DecodeError as error:
        raise ServableError(Code.INVALID_ARGUMENT, f"Failed to parse warmup record: {name}: {error}") from None


def _number(log: Any) -> int:
    """The field that a PredictionLog has set, 0 for none."""
    kind = log.WhichOneof("log_type")
    return log.DESCRIPTOR.fields_by_name[kind].number if kind else 0


def _predict(servable: Servable, log: Any, iterations: int) -> int:
    request = log.predict_log.request
    name = request.model_spec.signature_name
    signature = servable.signature(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if not _answered_here(servable, signature):
        return 0
    inputs = {key: from_proto(tensor, key) for key, tensor in request.inputs.items()}
    servable.check_names(signature, inputs)
    _repeat(servable, signature, inputs, signature.outputs, iterations)
    return 1


def _classify(servable: Servable, log: Any, iterations: int) -> int:
    return _one(servable, log.classify_log.request, examples.CLASSIFY, iterations)


def _regress(servable: Servable, log: Any, iterations: int) -> int:
    return _one(servable, log.regress_log.request, examples.REGRESS, iterations)


def _one(servable: Servable, request: Any, method: str, iterations: int) -> int:
    sent = ExamplesRequest.FromString(request.SerializeToString())
    task = examples.single(servable, sent.model_spec.signature_name, method)
    return _infer(servable, [task], sent.input, iterations)


def _multi_inference(servable: Servable, log: Any, iterations: int) -> int:
    sent = MultiInferenceRequest.FromString(log.multi_inference_log.request.SerializeToString())
    return _infer(servable, examples.several(servable, sent.tasks), sent.input, iterations)


def _infer(servable: Servable, tasks: list[examples.Task], sent: Any, iterations: int) -> int:
    if not all(_answered_here(servable, task.signature) for task in tasks):
        return 0
    inputs = examples.feed(sent)
    for task in tasks:
        outputs = _repeat(servable, task.signature, inputs, task.outputs, iterations)
        examples.read(task, outputs, len(inputs[examples.INPUT]))
    return 1


def _answered_here(servable: Servable, signature: Signature) -> bool:
    """False for a signature that only TensorFlow answers, where it is not installed."""
    try:
        servable.engine(signature.name)
    except ServingError as error:
        if error.code == Code.FAILED_PRECONDITION:
            return False
        raise
    return True


def _repeat(
    servable: Servable, signature: Signature, inputs: dict[str, NDArray], outputs: list[str], iterations: int
) -> dict[str, NDArray]:
    # At least twice where calls may run on the event loop: the first may allocate, the second shows what a call costs.
    for _ in range(max(iterations, 2) if servable.engine(signature.name).quick else max(iterations, 1)):
        answer = servable.run(signature, inputs, outputs)
    return answer


_KINDS: dict[str | None, Callable[[Servable, Any, int], int]] = {
    "predict_log": _predict,
    "classify_log": _classify,
    "regress_log": _regress,
    "multi_inference_log": _multi_inference,
}
