"""LiteRT: runs a version's ``model.tflite`` (its ``serving_default``, free batch, raw units).

An interpreter serves one request at a time, so there is a pool of them, kept by input shape: a request whose shape has
been seen finds an interpreter that is already resized. Where a file cannot be resized, rows are run one by one.
"""

from __future__ import annotations

import math
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from model_server.errors import Code, ServableError, invalid
from model_server.protos import SignatureDef
from model_server.signatures import DEFAULT, check_shape
from model_server.tensors import BY_DTYPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.engines import Stop

    Shapes = tuple[tuple[int, ...], ...]

# Interpreters kept for later requests; each holds its own copy of the activations, as large as its largest request's.
MAX_IDLE = 4
# A new one is made while fewer are idle; else one is resized: that costs up to 1 ms at 64 rows, a new one up to 11 ms.
MAX_NEW = 2
# One whose inputs had more values than this is not kept: its activations take many times as much.
MAX_KEPT_VALUES = 1 << 20
# One that had more rows than this is kept only for a while: 64 rows are 2.5 MB in the transformer, 1,024 are 48 MB.
MAX_KEPT_ROWS = 64
LARGE_SECONDS = 3.0
# Ops that keep state between two calls: TF Serving's answers do not depend on earlier requests, so it is cleared.
STATEFUL = {"UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "SVDF",
            "VAR_HANDLE", "LSTM", "RNN"}  # fmt: skip


class Runner:
    """One interpreter, resized to one set of input shapes."""

    def __init__(self, content: bytes) -> None:
        self.interpreter = Interpreter(model_content=content, num_threads=1)
        self.interpreter.allocate_tensors()
        signatures = self.interpreter.get_signature_list()
        if len(signatures) > 1:
            raise ServableError(
                Code.INVALID_ARGUMENT,
                f"model.tflite has the signatures {', '.join(signatures)}; convert it with one, serving_default",
            )
        if signatures:
            ((self.signature, names),) = signatures.items()
            runner = self.interpreter.get_signature_runner(self.signature)
            self.inputs = {name: runner.get_input_details()[name] for name in names["inputs"]}
            self.outputs = {name: runner.get_output_details()[name] for name in names["outputs"]}
        else:
            self.signature = DEFAULT
            self.inputs = {detail["name"]: detail for detail in self.interpreter.get_input_details()}
            self.outputs = {detail["name"]: detail for detail in self.interpreter.get_output_details()}
        self.names = list(self.inputs)
        self.shapes: Shapes = tuple(tuple(detail["shape"].tolist()) for detail in self.inputs.values())
        self._inputs = [(name, detail["index"]) for name, detail in self.inputs.items()]
        self._outputs = {name: detail["index"] for name, detail in self.outputs.items()}
        ops = {op["op_name"] for op in self.interpreter._get_ops_details()}
        self.largest = sum(map(math.prod, self.shapes))  # values of its largest request
        self.used = 0.0  # time.monotonic(), of a large one
        self._stateful = bool(ops & STATEFUL)

    def resize(self, shapes: Shapes) -> None:
        for (_, index), shape in zip(self._inputs, shapes, strict=True):
            self.interpreter.resize_tensor_input(index, shape)
        self.interpreter.allocate_tensors()
        self.shapes = shapes
        self.largest = max(self.largest, sum(map(math.prod, shapes)))

    def run(self, inputs: Mapping[str, NDArray], outputs: Sequence[str]) -> dict[str, NDArray]:
        interpreter = self.interpreter
        if self._stateful:
            interpreter.reset_all_variables()
        for name, index in self._inputs:
            interpreter.set_tensor(index, inputs[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(self._outputs[name]) for name in outputs}


class LiteRTEngine:
    name = "litert"
    quick = True

    def __init__(self, file: Path, also: Sequence[str] = ()) -> None:
        """``also`` names further signatures with the same graph, tensors and names. Raises ServableError."""
        try:
            self._content = file.read_bytes()
            runner = Runner(self._content)
        except (OSError, ValueError, RuntimeError) as error:
            raise ServableError(Code.INVALID_ARGUMENT, f"{file} is no model that LiteRT can run: {error}") from None
        self.inputs = {
            name: (detail["dtype"], detail["shape_signature"].tolist()) for name, detail in runner.inputs.items()
        }
        self.outputs = {
            name: (detail["dtype"], detail["shape_signature"].tolist()) for name, detail in runner.outputs.items()
        }
        self._names = runner.names
        self._signatures = {runner.signature, *also}
        self._first: Shapes = runner.shapes
        # A file converted for one row would have to be trusted with shapes that its graph may hold as constants.
        self._row_by_row = any(len(shape) > 0 and shape[0] == 1 for _, shape in self.inputs.values())
        self._lock = threading.Lock()
        self._idle: list[Runner] = [runner]
        self._large = MAX_KEPT_ROWS * runner.largest  # values of a request
        self._timer: threading.Timer | None = None

    def answers(self, signature: str) -> bool:
        return signature in self._signatures

    def run(
        self, signature: str, inputs: Mapping[str, NDArray], outputs: Sequence[str], stop: Stop | None = None
    ) -> dict[str, NDArray]:
        shapes = tuple([inputs[name].shape for name in self._names])
        known = self._idle_runner(shapes)
        if known is not None:  # shapes that have been run before need no second look
            try:
                answer = known.run(inputs, outputs)
            except (RuntimeError, ValueError) as error:
                raise invalid(f"LiteRT cannot run this request: {error}") from None
            self._put_back(known)
            return answer
        self._check(inputs)
        rows = {shape[0] for shape in shapes if shape}
        if rows == {0}:
            return {name: self._no_rows(name) for name in outputs}
        if self._row_by_row and shapes != self._first and len(rows) == 1:
            return self._run_rows(inputs, outputs, rows.pop(), stop)
        try:
            runner = self._take(shapes)
            answer = runner.run(inputs, outputs)
        except (RuntimeError, ValueError) as error:
            if shapes != self._first and len(rows) == 1:
                answer = self._run_rows(inputs, outputs, rows.pop(), stop)
                self._row_by_row = True
                return answer
            raise invalid(f"LiteRT cannot run this request: {error}") from None
        self._put_back(runner)
        return answer

    def close(self) -> None:
        self._idle.clear()

    def _run_rows(
        self, inputs: Mapping[str, NDArray], outputs: Sequence[str], rows: int, stop: Stop | None
    ) -> dict[str, NDArray]:
        answers = []
        for row in range(rows):
            if stop is not None:
                stop.check()
            single = {
                name: np.ascontiguousarray(array[row : row + 1]) if array.ndim else array
                for name, array in inputs.items()
            }
            shapes = tuple([single[name].shape for name in self._names])
            try:
                runner = self._take(shapes)
                answers.append(runner.run(single, outputs))
            except (RuntimeError, ValueError) as error:
                raise invalid(f"LiteRT cannot run this request: {error}") from None
            self._put_back(runner)
        return {name: np.concatenate([answer[name] for answer in answers]) for name in outputs}

    def _no_rows(self, output: str) -> NDArray:
        dtype, shape = self.outputs[output]
        return np.empty((0, *[max(size, 0) for size in shape[1:]]), dtype)

    def _take(self, shapes: Shapes) -> Runner:
        """An idle interpreter of these shapes, or a new one, or one that was resized. It is put back only after a success."""
        known = self._idle_runner(shapes)
        if known is not None:
            return known
        with self._lock:
            spare = self._idle.pop(0) if len(self._idle) >= MAX_NEW else None
        runner = spare or Runner(self._content)
        if runner.shapes != shapes:
            runner.resize(shapes)
        return runner

    def _idle_runner(self, shapes: Shapes) -> Runner | None:
        with self._lock:
            for position in range(len(self._idle) - 1, -1, -1):
                if self._idle[position].shapes == shapes:
                    return self._idle.pop(position)
        return None

    def _put_back(self, runner: Runner) -> None:
        with self._lock:
            if len(self._idle) >= MAX_IDLE or runner.largest > MAX_KEPT_VALUES:
                return
            self._idle.append(runner)
            if runner.largest > self._large:
                runner.used = monotonic()
                if self._timer is None:
                    self._look_later()

    def _look_later(self) -> None:
        self._timer = threading.Timer(LARGE_SECONDS, self._drop_large)
        self._timer.daemon = True
        self._timer.start()

    def _drop_large(self) -> None:
        """Large interpreters that no request has used for a while go: a smaller shape does not free their memory."""
        with self._lock:
            since = monotonic() - LARGE_SECONDS
            self._idle = [runner for runner in self._idle if runner.largest <= self._large or runner.used > since]
            self._timer = None
            if any(runner.largest > self._large for runner in self._idle):
                self._look_later()

    def _check(self, inputs: Mapping[str, NDArray]) -> None:
        for name, (dtype, shape) in self.inputs.items():
            array = inputs[name]
            if array.dtype != dtype:
                raise invalid(f"input {name} is {array.dtype}, but the model takes {np.dtype(dtype)}")
            if len(array.shape) != len(shape) or any(
                want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)
            ):
                if self._row_by_row_fits(array.shape, shape):
                    continue
                check_shape(name, array.shape, shape)

    @staticmethod
    def _row_by_row_fits(got: tuple[int, ...], want: list[int]) -> bool:
        """A file converted for a batch of one takes any number of rows, one by one."""
        return (
            len(got) == len(want) > 0
            and want[0] == 1
            and all(w in (-1, g) for w, g in zip(want[1:], got[1:], strict=True))
        )


def file_signature(engine: LiteRTEngine) -> Any:
    """A SignatureDef of a model.tflite that came without saved_model.pb."""
    proto = SignatureDef(method_name="tensorflow/serving/predict")
    for tensors, target in ((engine.inputs, proto.inputs), (engine.outputs, proto.outputs)):
        for name, (dtype, shape) in tensors.items():
            target[name].name = name
            target[name].dtype = BY_DTYPE[np.dtype(dtype)].enum
            for size in shape:
                target[name].tensor_shape.dim.add().size = size
    return proto
