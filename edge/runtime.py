"""LiteModel: one .tflite file with its json, answering in raw units. NumPy and a runtime for .tflite files only.

Normalisation and quantization happen here, in NumPy, outside the file: callers see the same units and dtypes whatever the
variant. A file with a static batch is asked row by row, one with a free batch all at once.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError, ModelFileError, RequestError
from edge.interpreters import choose_runtime, in_words, load_interpreter
from edge.pool import InterpreterPool, NamedInterpreter
from edge.tensors import Tensor

if TYPE_CHECKING:
    from pathlib import Path

Tensors = dict[str, NDArray]


class LiteModel:
    """One loaded model. ``predict`` may be called from any thread; ``interpreters`` of its calls run at once, others wait.

    ``threads``: of one invocation. ``runtime`` and ``delegate``: as ``edge.interpreters.load_interpreter`` takes them.
    Raises ModelFileError when the file or its json is missing, damaged, not the one that the json describes, or
    cannot be run by the runtime; SettingError for a runtime, a delegate or a number that cannot be had here.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        runtime: str | None = None,
        delegate: str | None = None,
        interpreters: int = 1,
    ) -> None:
        self.path = path
        self.threads, self.delegate, self.interpreters = threads, delegate, interpreters
        self.description, self._content = read_model(path)
        affine = self.description["affine"]
        self.inputs = [Tensor.from_json(t, affine["inputs"].get(t["name"])) for t in self.description["inputs"]]
        self.outputs = [Tensor.from_json(t, affine["outputs"].get(t["name"])) for t in self.description["outputs"]]
        self._names = {tensor.name for tensor in self.inputs}
        self._runtime, version = choose_runtime(runtime)
        self.runtime = f"{self._runtime} {version}"  # "ai-edge-litert 2.3.0"
        self._pool = InterpreterPool(self._make_interpreter, size=interpreters)

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

    @property
    def interpreter_cpu_seconds(self) -> float:
        """CPU time inside the interpreter so far (set, invoke, get), on the threads that asked."""
        return self._pool.cpu_seconds()

    def predict(self, inputs: Tensors) -> Tensors:
        """``{name: [N, …]}`` in raw units → ``{name: [N, …]}`` in raw units; N = 0 gives empty outputs.

        Raises RequestError when names, dtypes or shapes do not fit, or a quantized model gets NaN or infinity.
        """
        rows = self._check(inputs)
        with np.errstate(over="ignore", invalid="ignore"):
            prepared = self._to_file(inputs)
            if rows == 0:
                answers = {t.name: np.zeros((0, *(size or 0 for size in t.shape[1:])), t.dtype) for t in self.outputs}
            else:
                answers = self._invoke_rows(prepared, rows)
            return {tensor.name: tensor.to_raw(answers[tensor.name], inputs) for tensor in self.outputs}

    def prepare(self, inputs: Tensors) -> Tensors:
        """Raw inputs → the tensors of the file, normalised and quantized. Raises RequestError as ``predict`` does."""
        self._check(inputs)
        with np.errstate(over="ignore", invalid="ignore"):
            return self._to_file(inputs)

    def invoke(self, prepared: Tensors) -> Tensors:
        """One invocation: the file's inputs, ``batch`` rows of them, → the file's outputs, neither in raw units."""
        return self._pool.lend(lambda interpreter: self._run(interpreter, prepared))

    def warm_up(self) -> None:
        """One invocation on zeros. Raises ModelFileError for a file that the runtime loads but cannot run."""
        try:
            self.invoke({t.name: np.zeros([size or 1 for size in t.shape], t.dtype) for t in self.inputs})
        except EdgeError as error:
            raise ModelFileError(str(error)) from error

    def _check(self, inputs: Tensors) -> int:
        """The number of rows."""
        if inputs.keys() != self._names:
            extra, missing = sorted(inputs.keys() - self._names), sorted(self._names - inputs.keys())
            raise RequestError(
                f"input size does not match signature: {len(inputs)}!={len(self._names)} "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
        rows = {}
        for tensor in self.inputs:
            value = inputs[tensor.name]
            tensor.check(value)
            if value.shape:
                rows[tensor.name] = value.shape[0]
        if len(rows) > 1 and len(set(rows.values())) > 1:
            raise RequestError(f"the inputs have different numbers of rows: {rows}; send the same number for each")
        return next(iter(rows.values()), 1)

    def _to_file(self, inputs: Tensors) -> Tensors:
        return {tensor.name: tensor.to_file(inputs) for tensor in self.inputs}

    def _invoke_rows(self, prepared: Tensors, rows: int) -> Tensors:
        size = self.batch or rows
        if rows <= size:
            return self.invoke(prepared)
        batches = [
            {name: value[start : start + size] for name, value in prepared.items()} for start in range(0, rows, size)
        ]
        parts = self._pool.lend(lambda interpreter: [self._run(interpreter, batch) for batch in batches])
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, interpreter: NamedInterpreter, inputs: Tensors) -> Tensors:
        try:
            return interpreter.invoke(inputs)
        except (RuntimeError, ValueError) as error:
            raise EdgeError(
                f"{self.runtime} could not run {self.path.name} of {_label(self.description)}: {in_words(error)}"
            ) from error

    def _make_interpreter(self) -> NamedInterpreter:
        loaded = load_interpreter(
            self._content, runtime=self._runtime, threads=self.threads, delegate=self.delegate, file=self.path
        )
        try:
            interpreter = NamedInterpreter(loaded, stateful=self.description["stateful"])
        except ValueError as error:  # no signature, or several
            raise ModelFileError(
                f"{self.path} is no file that lite/ makes ({in_words(error)}); convert it again"
            ) from error
        if (interpreter.inputs.keys(), interpreter.outputs.keys()) != (self._names, {t.name for t in self.outputs}):
            raise ModelFileError(f"{self.path} has other inputs or outputs than its json says; convert it again")
        return interpreter


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


def _label(description: dict[str, Any]) -> str:
    return f"{description['model']} version {description['version']}"
