"""What a load asks: rows of a model's evidence as REST and gRPC requests of one row, and whether an answer is right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from compare.tolerances import limits_for
from loadtest.connections import grpc_frame, http_request
from serving.client.api import Spec
from serving.client.grpc import GrpcWording
from serving.client.messages import message
from serving.client.tensors import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from export.bundle import Export

SIGNATURE = "serving_default"
GRPC_PATH = "/tensorflow.serving.PredictionService/Predict"


@dataclass
class Question:
    """One request, and the SavedModel's own answer to it: the evidence."""

    request: bytes
    expected: NDArray
    decode: Callable[[bytes], NDArray]
    tolerance: float
    _good: set[bytes] = field(default_factory=set)  # bodies that were compared before

    def wrong(self, body: bytes) -> str | None:
        """What is wrong with an answer's body, or None."""
        if body in self._good:
            return None
        try:
            error = float(np.abs(self.decode(body) - self.expected).max())
        except (ValueError, KeyError, TypeError) as problem:
            return f"the answer cannot be read: {problem}"
        if not error <= self.tolerance:
            return f"the answer is off by {error:.3g}, more than {self.tolerance:.3g}"
        if len(self._good) < 1000:
            self._good.add(body)
        return None


def questions(export: Export, protocol: str, count: int = 16) -> list[Question]:
    """The first rows of the labelled evidence, one row a request, to the model's newest version."""
    case = export.evidence.cases(SIGNATURE)[0]
    ((output, expected),) = case.outputs.items()
    rows = range(min(count, case.rows))
    # Absolute or relative, whichever is kinder, as the verdict has it.
    tolerance = (limits_for("float32").tolerance or 0.0) * max(1.0, float(np.abs(expected).max()))
    return [
        Question(
            _rest(export.model, case.inputs, row) if protocol == "rest" else _grpc(export.model, case.inputs, row),
            expected[row : row + 1],
            _rest_answer if protocol == "rest" else lambda body: _grpc_answer(body, output),
            tolerance,
        )
        for row in rows
    ]


def _rest(model: str, inputs: dict[str, NDArray], row: int) -> bytes:
    ((_, values),) = inputs.items()
    body = json.dumps({"instances": values[row : row + 1].tolist()}).encode()
    return http_request(f"/v1/models/{model}:predict", body)


def _rest_answer(body: bytes) -> NDArray:
    return np.array(json.loads(body)["predictions"])


def _grpc(model: str, inputs: dict[str, NDArray], row: int) -> bytes:
    asked = GrpcWording().predict(Spec(model), {name: values[row : row + 1] for name, values in inputs.items()}, ())
    return grpc_frame(asked.request.SerializeToString())


def _grpc_answer(body: bytes, output: str) -> NDArray:
    return decode(message("tensorflow.serving.PredictResponse").FromString(body).outputs[output])
