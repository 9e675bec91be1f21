"""The operators of a .tflite file in the order in which they run, with the tensors that they read and write."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
# Between float and integer parts of a graph; they have no counterpart in the float one.
BORDERS = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Step:
    """One output tensor of one operator. ``inputs``: the tensors that it reads and that other operators, or the caller, wrote."""

    index: int  # of the tensor, for ``Interpreter.get_tensor``
    name: str
    op: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...]


def steps_of(content: bytes) -> list[Step]:
    """Of the main subgraph of the file's first signature."""
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(model.SignatureDefs(0).SubgraphIndex())
    steps: list[Step] = []
    written = {graph.Inputs(i) for i in range(graph.InputsLength())}
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        op = _operator(model.OperatorCodes(operator.OpcodeIndex()))
        read = tuple(i for i in map(operator.Inputs, range(operator.InputsLength())) if i in written)
        for index in map(operator.Outputs, range(operator.OutputsLength())):
            tensor = graph.Tensors(index)
            shape = tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
            steps.append(Step(index, tensor.Name().decode(), op, shape, read))
            written.add(index)
    return steps


def _operator(code: Any) -> str:
    builtin = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    return _OPERATORS.get(builtin, str(builtin))


def matched(reference: Sequence[Step], other: Sequence[Step]) -> list[tuple[Step, Step]]:
    """Pairs (reference, other) of tensors that hold the same thing, in the order in which ``other`` computes them.

    By name, which the converter takes from TensorFlow's graph. What is left, where a model was trained again by another
    library, by the order of operators and shapes.
    """
    by_name: dict[tuple[str, tuple[int, ...]], list[Step]] = {}
    for step in reference:
        by_name.setdefault((step.name, step.shape), []).append(step)
    pairs = {}
    for step in other:
        if same := by_name.get((step.name, step.shape)):  # a name may stand for several: the second output of "split_1"
            pairs[step.index] = same.pop(0)  # and the first of "split_11"
    taken = {step.index for step in pairs.values()}
    rest = [s for s in reference if s.index not in taken]
    left = [s for s in other if s.index not in pairs and s.op not in BORDERS]
    blocks = SequenceMatcher(None, [_key(s) for s in rest], [_key(s) for s in left], autojunk=False)
    for a, b, size in blocks.get_matching_blocks():
        pairs.update((left[b + i].index, rest[a + i]) for i in range(size))
    return [(pairs[step.index], step) for step in other if step.index in pairs]


def _key(step: Step) -> tuple[str, tuple[int, ...]]:
    return step.op, step.shape
