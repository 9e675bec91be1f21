"""LiteBench: everything that the report asks of .tflite files. ``compare/guard.py`` puts it into a process that may be killed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.bench import Block
from compare.cold import one_row
from compare.quantization.layers import ROWS, layer_errors
from compare.quantization.quality import quality
from edge.errors import EdgeError
from edge.interpreters import NO_DELEGATE, in_words, load_interpreter
from edge.runtime import LiteModel
from models.artifacts import read_json
from models.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    from compare.quantization.layers import LayerError
    from export.bundle import Export

XNNPACK, NONE = "XNNPACK", "none"
LEAST_CALLS, MOST_CALLS = 3, 1000  # of one block


@dataclass(frozen=True)
class Setting:
    """How a file is called. ``invoke``: the interpreter alone, inputs in place; ``predict``: raw units in, raw units out."""

    call: Literal["invoke", "predict"]
    delegate: str
    threads: int

    def __str__(self) -> str:
        return f"{self.call}, {self.delegate}, {self.threads} thread{'s' if self.threads > 1 else ''}"


class LiteBench:
    def __init__(self) -> None:
        self._calls: dict[tuple[Path, Setting], Callable[[], object]] = {}

    def quality(self, export: Export, variant: str) -> dict[str, Any]:
        try:
            return quality(LiteModel(export.lite(variant)), export, variant)
        except EdgeError as error:
            raise TargetError(str(error)) from error

    def steady(self, export: Export, variant: str, setting: Setting, seconds: float) -> Block:
        """One block of calls after an untimed one, for about ``seconds``."""
        key = (export.lite(variant), setting)
        if key not in self._calls:
            self._calls[key] = _opened(export, variant, setting)
        return timed(self._calls[key], seconds)

    def layers(self, export: Export, variant: str, float_file: Path) -> list[LayerError]:
        path = export.lite(variant)
        rows = {name: values[:ROWS] for name, values in _first_case(export).items()}
        try:
            return layer_errors(float_file.read_bytes(), path.read_bytes(), read_json(path.with_suffix(".json")), rows)
        except (RuntimeError, ValueError) as error:
            raise TargetError(in_words(error)) from error

    def close_all(self) -> None:
        self._calls.clear()


def timed(call: Callable[[], object], seconds: float) -> Block:
    """Call again and again: the seconds of each, and the CPU seconds of all, every thread of this process counted."""
    call()  # what came before has filled the caches with something else
    samples: list[float] = []
    cpu = time.process_time()
    end = time.perf_counter() + seconds
    while len(samples) < MOST_CALLS:
        start = time.perf_counter()
        if start > end and len(samples) >= LEAST_CALLS:
            break
        call()
        samples.append(time.perf_counter() - start)
    return Block(np.array(samples), time.process_time() - cpu)


def _first_case(export: Export) -> dict[str, Any]:
    return export.evidence.cases(_signature(export))[0].inputs


def _signature(export: Export) -> str:
    return export.description.get("brought", {}).get("signature", "serving_default")


def _opened(export: Export, variant: str, setting: Setting) -> Callable[[], object]:
    row = one_row(export, _signature(export))
    delegate = NO_DELEGATE if setting.delegate == NONE else None
    try:
        model = LiteModel(export.lite(variant), threads=setting.threads, delegate=delegate)
        if setting.call == "predict":
            return lambda: model.predict(row)
        interpreter = load_interpreter(model.path.read_bytes(), threads=setting.threads, delegate=delegate)
        return _bare(interpreter, model.prepare(row), model.description["stateful"])
    except (EdgeError, RuntimeError, ValueError) as error:
        raise TargetError(in_words(error)) from error


def _bare(interpreter: Any, prepared: dict[str, Any], stateful: bool) -> Callable[[], object]:
    """``invoke()`` with the inputs in place; of a stateful file with the reset that a right answer needs before it."""
    details = interpreter.get_signature_runner().get_input_details()
    for name, value in prepared.items():
        if tuple(details[name]["shape"]) != value.shape:
            interpreter.resize_tensor_input(details[name]["index"], value.shape)
    interpreter.allocate_tensors()
    for name, value in prepared.items():
        interpreter.set_tensor(details[name]["index"], value)
    if not stateful:
        return interpreter.invoke

    def reset_and_invoke() -> None:
        interpreter.reset_all_variables()
        interpreter.invoke()

    return reset_and_invoke
