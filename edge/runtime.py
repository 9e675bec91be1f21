"""LiteModel: one .tflite file with its json, answering in raw units. NumPy and LiteRT only.

Normalisation and quantization happen here, in NumPy, outside the file: callers see the same units and dtypes whatever the
variant. A file with a static batch is asked row by row, one with a free batch all at once.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError, ModelFileError, RequestError
from edge.tensors import Tensor

if TYPE_CHECKING:
    from pathlib import Path

Tensors = dict[str, NDArray]


class LiteModel:
    """One loaded model. ``predict`` may be called from any thread; calls of one model take turns.

    Raises ModelFileError when the file or its json is missing, damaged, not the one that the json describes, or
    cannot be run by LiteRT. ``threads`` is the number of threads of one invocation.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.path = path
        self.threads = threads
        self.description, content = read_model(path)
        affine = self.description["affine"]
        self.inputs = [Tensor.from_json(t, affine["inputs"].get(t["name"])) for t in self.description["inputs"]]
        self.outputs = [Tensor.from_json(t, affine["outputs"].get(t["name"])) for t in self.description["outputs"]]
        self._stateful = self.description["stateful"]
        self._lock = threading.Lock()
        self._interpreter, self._input_index, self._output_index = _load(path, content, threads)
        if set(self._input_index) != {t.name for t in self.inputs} or set(self._output_index) != {
            t.name for t in self.outputs
        }:
            raise ModelFileError(f"{path} has other inputs or outputs than its json says; convert it again")
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def name(self) -> str:
        return self.description["model"]

    @property
    def version(self) -> int:
        return self.description["version"]

    @property
    def variant(self) -> str:
        return self.description["variant"]

    @property
    def sha256(self) -> str:
        return self.description["sha256"]

    @property
    def bytes(self) -> int:
        return self.description["bytes"]

    @property
    def batch(self) -> int | None:
        """Rows per invocation; None where the file takes any number at once."""
        return self.inputs[0].batch

    def predict(self, inputs: Tensors) -> Tensors:
        """``{name: [N, …]}`` in raw units → ``{name: [N, …]}`` in raw units; N = 0 gives empty outputs.

        Raises RequestError when names, dtypes or shapes do not fit, or a quantized model gets NaN or infinity.
        """
        rows = self._check(inputs)
        with np.errstate(over="ignore", invalid="ignore"):
            prepared = {tensor.name: tensor.to_file(inputs) for tensor in self.inputs}
            if rows == 0:
                answers = {t.name: np.zeros((0, *(size or 0 for size in t.shape[1:])), t.dtype) for t in self.outputs}
            else:
                answers = self._invoke_rows(prepared, rows)
            return {tensor.name: tensor.to_raw(answers[tensor.name], inputs) for tensor in self.outputs}

    def _check(self, inputs: Tensors) -> int:
        """The number of rows."""
        names = {tensor.name for tensor in self.inputs}
        if set(inputs) != names:
            extra, missing = sorted(set(inputs) - names), sorted(names - set(inputs))
            raise RequestError(
                f"input size does not match signature: {len(inputs)}!={len(names)} "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
        for tensor in self.inputs:
            tensor.check(inputs[tensor.name])
        rows = {tensor.name: len(inputs[tensor.name]) for tensor in self.inputs if tensor.shape}
        if len(set(rows.values())) > 1:
            raise RequestError(f"the inputs have different numbers of rows: {rows}; send the same number for each")
        return next(iter(rows.values()), 1)

    def _invoke_rows(self, prepared: Tensors, rows: int) -> Tensors:
        size = self.batch or rows
        with self._lock:
            if rows <= size:
                return self._invoke(prepared)
            parts = [
                self._invoke({name: value[start : start + size] for name, value in prepared.items()})
                for start in range(0, rows, size)
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _invoke(self, inputs: Tensors) -> Tensors:
        shapes = {name: value.shape for name, value in inputs.items()}
        try:
            if shapes != self._shapes:
                for tensor in self.inputs:
                    if None in tensor.shape:
                        self._interpreter.resize_tensor_input(self._input_index[tensor.name], shapes[tensor.name])
                self._interpreter.allocate_tensors()
                self._shapes = shapes
            if self._stateful:  # a fused LSTM would go on from the row before
                self._interpreter.reset_all_variables()
            for name, value in inputs.items():
                self._interpreter.set_tensor(self._input_index[name], value)
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._output_index.items()}
        except (RuntimeError, ValueError) as error:
            self._shapes = {}
            raise EdgeError(f"LiteRT could not run {self.path.name} of {_label(self.description)}: {error}") from error


def read_model(path: Path) -> tuple[dict[str, Any], bytes]:
    """The json and the content of a .tflite file, compared with each other. Raises ModelFileError; needs no LiteRT."""
    description = read_description(path.with_suffix(".json"))
    if description["error"]:
        raise ModelFileError(f"there is no {path.name} of {_label(description)}: {description['error']}")
    return description, _read_checked(path, description["sha256"])


_NEEDED = {"model", "version", "variant", "sha256", "bytes", "error", "inputs", "outputs", "affine", "stateful"}


def read_description(path: Path) -> dict[str, Any]:
    """The json beside a .tflite file. Raises ModelFileError when it is missing or damaged."""
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing; a model is its .tflite file together with that json") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error}); copy it again") from error
    missing = _NEEDED - set(description) if isinstance(description, dict) else _NEEDED
    if missing:
        raise ModelFileError(f"{path} lacks {', '.join(sorted(missing))}; copy it again from artifacts/lite")
    return description


def _read_checked(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing; copy it from artifacts/lite") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ModelFileError(
            f"{path} ({len(content)} bytes, sha256 {digest[:12]}…) is not the file that its json describes "
            f"(sha256 {sha256[:12]}…): truncated or exchanged; copy both again"
        )
    return content


def _load(path: Path, content: bytes, threads: int) -> tuple[Any, dict[str, int], dict[str, int]]:
    """The interpreter, and tensor index by name for inputs and outputs."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise ModelFileError(f"LiteRT cannot load {path}: {str(error).splitlines()[0]}") from error
    inputs = {name: detail["index"] for name, detail in runner.get_input_details().items()}
    outputs = {name: detail["index"] for name, detail in runner.get_output_details().items()}
    return interpreter, inputs, outputs


def _label(description: dict[str, Any]) -> str:
    return f"{description['model']} version {description['version']}"
