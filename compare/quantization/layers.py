"""Which tensor loses most: the float graph and another one run side by side, every tensor between the layers kept.

A tensor's error is the root mean square of its difference from the float graph's tensor, in standard deviations of the
latter: 0.01 is a noise of one per cent of the signal. Part of it came with the operator's inputs; the rest is what the
operator *adds*, by rounding or because it amplifies. The ranking is by that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.quantization.graph import matched, steps_of
from edge.tensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from compare.quantization.graph import Step

    Tensors = dict[str, NDArray]

ROWS = 64  # of the test set; the error of a tensor settles within a few
JUMP = 3.0  # an operator jumps when its error is this many times that of its inputs …
WORTH = 0.1  # … and at least this part of the largest error anywhere
FUSED = (
    "UNIDIRECTIONAL_SEQUENCE_LSTM is one operator: the gates and the cell state of its steps live inside it and are no tensors "
    "of the graph, so the first thing that can be compared is the row of hidden states that it gives out"
)


@dataclass(frozen=True)
class LayerError:
    """``place`` in the order of execution; ``op`` of the compared file, ``error`` and ``inherited`` in standard deviations."""

    place: int
    name: str
    op: str
    elements: int
    scale: float | None  # of the tensor, None for a float one
    error: float
    inherited: float  # the largest error among the operator's inputs
    error_in_scales: float | None  # the largest difference
    max_abs: float

    @property
    def added(self) -> float:
        return max(0.0, self.error - self.inherited)


def ranked(errors: Sequence[LayerError]) -> list[LayerError]:
    """What adds most comes first; of two that add the same, the earlier."""
    return sorted(errors, key=lambda e: (-e.added, e.place))


def first_jump(errors: Sequence[LayerError]) -> LayerError | None:
    """Where the error first jumps, in the order of execution; None where it grows little by little."""
    worst = max((e.error for e in errors), default=0.0)
    return next((e for e in errors if e.error > JUMP * e.inherited and e.error >= WORTH * worst > 0), None)


def layer_errors(float_file: bytes, file: bytes, description: Mapping[str, Any], raw: Tensors) -> list[LayerError]:
    """Errors of every tensor that both graphs have, in the order of execution, over the rows of ``raw`` {input: [N, …]}.

    ``description`` is the json of ``file``; the float graph takes and gives the same, unquantized.
    Raises RuntimeError or ValueError when an interpreter refuses.
    """
    affine = description["affine"]["inputs"]
    tensors = [Tensor.from_json(t, affine.get(t["name"])) for t in description["inputs"]]
    plain = [
        replace(t, scale=None, zero_point=None, dtype=np.dtype(np.float32)) if t.scale is not None else t
        for t in tensors
    ]
    reference, other = _Run(float_file, plain), _Run(file, tensors)
    pairs = matched(reference.steps, other.steps)
    sums = {theirs.index: _Sums() for _, theirs in pairs}
    inputs = {t.name: _Sums() for t in tensors}
    for row in range(len(next(iter(raw.values())))):
        one = {name: values[row : row + 1] for name, values in raw.items()}
        reference.invoke(one)
        other.invoke(one)
        for name, given in inputs.items():
            given.add(reference.value(reference.inputs[name]), other.value(other.inputs[name]))
        for ours, theirs in pairs:
            sums[theirs.index].add(reference.value(ours.index), other.value(theirs.index))
    known = {other.inputs[name]: given.error for name, given in inputs.items()}  # by index of the other graph's tensor
    errors: list[LayerError] = []
    for step in other.steps:
        inherited = max((known[i] for i in step.inputs), default=0.0)
        known[step.index] = inherited  # handed on by what has no counterpart, such as a QUANTIZE between two scales
        if found := sums.get(step.index):
            known[step.index] = found.error
            errors.append(_layer_error(len(errors), step, found, inherited, other.scale(step.index)))
    return errors


def _layer_error(place: int, step: Step, found: _Sums, inherited: float, scale: float | None) -> LayerError:
    in_scales = found.largest / scale if scale else None
    size = int(np.prod(step.shape))
    return LayerError(place, step.name, step.op, size, scale, found.error, inherited, in_scales, found.largest)


class _Sums:
    """Running sums over the elements of a tensor and of its difference; a tensor of every row need not be kept."""

    def __init__(self) -> None:
        self.n = 0
        self.total = self.squares = self.differences = self.largest = 0.0

    def add(self, reference: NDArray, value: NDArray) -> None:
        reference, difference = reference.astype(np.float64), value.astype(np.float64) - reference
        self.n += reference.size
        self.total += float(reference.sum())
        self.squares += float(np.square(reference).sum())
        self.differences += float(np.square(difference).sum())
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))

    @property
    def error(self) -> float:
        """RMS of the difference in standard deviations of the reference; of a constant tensor, in its own magnitude."""
        if not self.differences:
            return 0.0
        variance = self.squares / self.n - (self.total / self.n) ** 2
        signal = variance if variance > 1e-12 * self.squares / self.n else self.squares / self.n
        return float(np.sqrt(self.differences / self.n / signal)) if signal else float("inf")


class _Run:
    """One file without delegate, which would hide the tensors between the layers, and with all of them kept."""

    def __init__(self, content: bytes, tensors: Sequence[Tensor]) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._tensors = tensors
        self.steps = steps_of(content)
        details = self._interpreter.get_signature_runner().get_input_details()
        self.inputs = {name: detail["index"] for name, detail in details.items()}
        self._interpreter.allocate_tensors()
        self._quantization = {d["index"]: d["quantization_parameters"] for d in self._interpreter.get_tensor_details()}

    def scale(self, index: int) -> float | None:
        scales = self._quantization[index]["scales"]
        return float(scales[0]) if len(scales) == 1 else None

    def invoke(self, raw: Tensors) -> None:
        self._interpreter.reset_all_variables()  # a fused LSTM would go on from the row before
        for tensor in self._tensors:
            self._interpreter.set_tensor(self.inputs[tensor.name], tensor.to_file(raw))
        self._interpreter.invoke()

    def value(self, index: int) -> NDArray:
        """A tensor's content, dequantized."""
        value = self._interpreter.get_tensor(index)
        scale = self.scale(index)
        if scale is None or value.dtype.kind == "f":
            return value
        return (value.astype(np.float32) - np.float32(self._quantization[index]["zero_points"][0])) * np.float32(scale)
