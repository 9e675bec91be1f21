"""Warm-up: replays ``assets.extra/tf_serving_warmup_requests``, a TFRecord file of PredictionLog, before a version serves.

TFRecord: length uint64, its masked CRC-32C, the data, its masked CRC-32C (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from model_server.errors import Code, ServableError, ServingError
from model_server.protos import PredictionLog
from model_server.tensors import from_proto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from model_server.servable import Servable

MAX_RECORDS = 1000


def warm_up(servable: Servable) -> int:
    """Replay the Predict requests; returns their number. Raises ServableError when the file or a request is bad."""
    file = servable.folder / "assets.extra" / "tf_serving_warmup_requests"
    if not file.is_file():
        return 0
    replayed = 0
    for number, record in enumerate(_records(file)):
        if number >= MAX_RECORDS:
            raise ServableError(
                Code.INVALID_ARGUMENT, f"Number of warmup records exceeds the maximum ({MAX_RECORDS}): {file}"
            )
        try:
            log = PredictionLog.FromString(record)
        except DecodeError:
            raise ServableError(Code.INVALID_ARGUMENT, f"Failed to parse warmup record: {file}") from None
        if log.WhichOneof("log_type") != "predict_log":
            continue
        try:
            replayed += _replay(servable, log.predict_log.request)
        except ServingError as error:
            raise ServableError(error.code, f"warm-up request {number} of {file} failed: {error.message}") from None
    return replayed


def _replay(servable: Servable, request: object) -> int:
    name = request.model_spec.signature_name  # type: ignore[attr-defined]
    signature = servable.signature(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    try:
        servable.engine(signature.name)
    except ServingError as error:
        if error.code == Code.FAILED_PRECONDITION:
            return 0  # a request for a signature that only TensorFlow answers, and it is not here
        raise
    inputs = {key: from_proto(tensor, key) for key, tensor in request.inputs.items()}  # type: ignore[attr-defined]
    servable.check_names(signature, inputs)
    # Twice: the first call may compile or allocate, the second shows what a call costs.
    for _ in range(2 if servable.engine(signature.name).quick else 1):
        servable.run(signature, inputs, signature.outputs)
    return 1


def _records(file: Path) -> Iterator[bytes]:
    data = memoryview(file.read_bytes())
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 8], "little")
        start = position + 12
        if start + length + 4 > len(data):
            raise ServableError(Code.DATA_LOSS, f"corrupted record at {position} of {file}")
        yield bytes(data[start : start + length])
        position = start + length + 4
