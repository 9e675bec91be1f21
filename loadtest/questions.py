"""What a load asks: rows of a model's evidence as REST and gRPC requests of one row, and whether an answer is right.

A float answer is right within the verdict's tolerance. A quantized one is right when it decides as the reference does,
on rows that leave no doubt, or, for a regression, when it is no further from the reference than that is from the truth.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from compare.decision import decide, margin
from compare.tolerances import limits_for
from loadtest.connections import grpc_frame, http_request
from models.errors import ModelError
from serving.client.api import Spec
from serving.client.grpc import GrpcWording
from serving.client.messages import message
from serving.client.tensors import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from export.bundle import Export
    from export.evidence import Case
    from models.spec import Decision

SIGNATURE = "serving_default"
GRPC_PATH = "/tensorflow.serving.PredictionService/Predict"
# The margin (compare/decision.py) of the rows that a quantized model is asked. The verdict calls 0.1 clear and lets 2 %
# of those rows differ, which a count of wrong answers cannot; from 0.3 on the int8 files of all models agree on every row.
CERTAIN_MARGIN = 0.5


@dataclass
class Question:
    """One request, and the SavedModel's own answer to it: the evidence.

    ``body`` is JSON or a serialized message, made once; ``decision`` is judged where given, else the values.
    """

    path: str
    body: bytes
    expected: NDArray
    decode: Callable[[bytes], NDArray]
    tolerance: float
    decision: Decision | None = None
    _good: set[bytes] = field(default_factory=set)  # bodies that were compared before

    @cached_property
    def request(self) -> bytes:
        """The body framed for a bare connection: a whole HTTP/1.1 request, or a message with gRPC's prefix."""
        return grpc_frame(self.body) if self.path == GRPC_PATH else http_request(self.path, self.body)

    def wrong(self, body: bytes) -> str | None:
        """What is wrong with an answer's body, or None."""
        if body in self._good:
            return None
        try:
            answer = self.decode(body)
            if self.decision is None:
                error = float(np.abs(answer - self.expected).max())
            else:
                decided, reference = decide(answer, self.decision)[0], decide(self.expected, self.decision)[0]
        except (ValueError, KeyError, TypeError, IndexError) as problem:
            return f"the answer cannot be read: {problem}"
        if self.decision is None and not error <= self.tolerance:
            return f"the answer is off by {error:.3g}, more than {self.tolerance:.3g}"
        if self.decision is not None and decided != reference:
            return f"the answer decides for class {decided}, the reference for {reference}"
        if len(self._good) < 1000:
            self._good.add(body)
        return None


def questions(
    export: Export,
    protocol: str,
    count: int = 16,
    *,
    prefix: str = "",
    precision: str = "float32",
    label: str | None = None,
) -> list[Question]:
    """Rows of the labelled evidence, one row a request, to the model's newest version or to the one that has ``label``.

    ``protocol``: "rest" or "grpc"; ``prefix`` stands before REST's path; ``precision`` as in compare/tolerances.toml.
    """
    case = export.evidence.cases(SIGNATURE)[0]
    ((output, expected),) = case.outputs.items()
    tolerance, decision = limits_for(precision).tolerance, None
    if tolerance is not None:
        rows = np.arange(case.rows)[:count]
        tolerance *= max(
            1.0, float(np.abs(expected).max())
        )  # absolute or relative, whichever is kinder, as the verdict has it
    else:
        rows, tolerance, decision = _quantized(export, case, output, count)
    path = f"{prefix}/v1/models/{export.model}{f'/labels/{label}' if label else ''}:predict"
    return [
        Question(
            path if protocol == "rest" else GRPC_PATH,
            _rest(case.inputs, row) if protocol == "rest" else _grpc(Spec(export.model, label=label), case.inputs, row),
            expected[row : row + 1],
            _rest_answer if protocol == "rest" else lambda body: _grpc_answer(body, output),
            tolerance,
            decision,
        )
        for row in map(int, rows)
    ]


def _quantized(export: Export, case: Case, output: str, count: int) -> tuple[NDArray, float, Decision | None]:
    """Rows far apart, the tolerance, and what decides; without a decision to take, the tolerance is the reference's error."""
    expected, decision = case.outputs[output], export.spec.decision
    if decision is not None and decision.kind != "value":
        rows = np.flatnonzero(margin(expected, decision) >= CERTAIN_MARGIN)
        return rows[:: max(1, len(rows) // count)][:count], 0.0, decision
    if case.labels is None:
        raise ModelError(f"{export.model} has no labels, so its quantized answers cannot be judged; ask a float target")
    error = float(np.abs(expected.reshape(-1) - case.labels.reshape(-1)).mean())
    return np.arange(case.rows)[:: max(1, case.rows // count)][:count], error, None


def _rest(inputs: dict[str, NDArray], row: int) -> bytes:
    ((_, values),) = inputs.items()
    return json.dumps({"instances": values[row : row + 1].tolist()}).encode()


def _rest_answer(body: bytes) -> NDArray:
    return np.array(json.loads(body)["predictions"])


def _grpc(asked: Spec, inputs: dict[str, NDArray], row: int) -> bytes:
    made = GrpcWording().predict(asked, {name: values[row : row + 1] for name, values in inputs.items()}, ())
    return made.request.SerializeToString()


def _grpc_answer(body: bytes, output: str) -> NDArray:
    return decode(message("tensorflow.serving.PredictResponse").FromString(body).outputs[output])


def serialise_us(export: Export, protocol: str, *, times: int = 100) -> float:
    """What it costs to make one request's bytes from arrays, µs: the median of so many."""
    case, seconds = export.evidence.cases(SIGNATURE)[0], []
    for number in range(times):
        start = time.perf_counter()
        if protocol == "rest":
            _rest(case.inputs, number % case.rows)
        else:
            _grpc(Spec(export.model), case.inputs, number % case.rows)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6
