"""What is in a .tflite file, read from the flatbuffer itself: inputs, outputs, operators, and where floats are left."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from lite.metadata import read_metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
# Their second input, or for a lookup the first, is a table of weights.
_WITH_KERNEL = {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "GATHER", "UNIDIRECTIONAL_SEQUENCE_LSTM"}


def inspect_tflite(content: bytes) -> dict[str, Any]:
    """``inputs``, ``outputs`` (name, dtype, shape with None, scale, zero_point), ``ops`` (operator → count),
    ``float_islands`` (the operators among them that touch a float32 or float16 tensor), ``stateful`` (variables
    keep their value between invocations), ``quantized`` (every tensor that has a scale, constants too, by name; None
    where there is none) and ``metadata`` (our own entry, lite/metadata.py, or None).

    A file is full integer when ``float_islands`` is empty: the converter's own flag does not promise that.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    ops: Counter[str] = Counter()
    islands: Counter[str] = Counter()
    stateful = False
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        dtypes = [_DTYPES[graph.Tensors(i).Type()] for i in range(graph.TensorsLength())]
        stateful = stateful or any(graph.Tensors(i).IsVariable() for i in range(graph.TensorsLength()))
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            name = _operator_name(model.OperatorCodes(operator.OpcodeIndex()))
            ops[name] += 1
            touched = {operator.Inputs(i) for i in range(operator.InputsLength())}
            touched |= {operator.Outputs(i) for i in range(operator.OutputsLength())}
            if any(dtypes[i] in ("float32", "float16") for i in touched if i >= 0):
                islands[name] += 1
    signature = model.SignatureDefs(0)
    graph = model.Subgraphs(signature.SubgraphIndex())
    return {
        "inputs": [_tensor(graph, signature.Inputs(i)) for i in range(signature.InputsLength())],
        "outputs": [_tensor(graph, signature.Outputs(i)) for i in range(signature.OutputsLength())],
        "ops": dict(sorted(ops.items())),
        "float_islands": dict(sorted(islands.items())),
        "stateful": stateful,
        "quantized": _quantized(graph) or None,
        "metadata": read_metadata(content),
    }


def inspect_kernels(content: bytes) -> dict[str, Any]:
    """``sparsity``: the share of zeros in all kernels together; ``distinct``: the most different values in one kernel.

    A kernel is a constant of two axes or more that an operator with weights reads.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    read = set()
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        if _operator_name(model.OperatorCodes(operator.OpcodeIndex())) in _WITH_KERNEL:
            read |= {operator.Inputs(i) for i in range(operator.InputsLength())}
    kernels: list[NDArray] = []
    zeros = 0
    for tensor in (graph.Tensors(i) for i in sorted(read) if i >= 0):
        buffer = model.Buffers(tensor.Buffer())
        if (
            tensor.ShapeLength() >= 2
            and buffer.DataLength()
            and (dtype := _DTYPES[tensor.Type()]) in ("float32", "int8")
        ):
            kernels.append(buffer.DataAsNumpy().view(dtype))
            zeros += int(np.count_nonzero(kernels[-1] == _zero_point(tensor)))
    size = sum(kernel.size for kernel in kernels)
    return {
        "sparsity": round(zeros / size, 4) if size else 0.0,
        "distinct": max((len(np.unique(kernel)) for kernel in kernels), default=0),
    }


def _zero_point(tensor: Any) -> int:
    """What stands for 0.0: of kernels always 0, of a table that is looked up, which is quantized as activations are, any."""
    quantization = tensor.Quantization()
    return int(quantization.ZeroPoint(0)) if quantization is not None and quantization.ZeroPointLength() else 0


def _operator_name(code: Any) -> str:
    builtin = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if builtin == schema.BuiltinOperator.CUSTOM:
        return code.CustomCode().decode()
    return _OPERATORS[builtin]


def _tensor(graph: Any, entry: Any) -> dict[str, Any]:
    tensor = graph.Tensors(entry.TensorIndex())
    free = tensor.ShapeSignatureLength()
    shape = (
        [tensor.ShapeSignature(i) for i in range(free)]
        if free
        else [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    )
    quantization = tensor.Quantization()
    quantized = quantization is not None and quantization.ScaleLength() == 1
    return {
        "name": entry.Name().decode(),
        "dtype": _DTYPES[tensor.Type()],
        "shape": [None if size < 0 else size for size in shape],
        "scale": float(quantization.Scale(0)) if quantized else None,
        "zero_point": int(quantization.ZeroPoint(0)) if quantized else None,
    }


def _quantized(graph: Any) -> dict[str, dict[str, Any]]:
    """Tensor name → dtype, scales and zero points (one each, or one per channel along ``axis``)."""
    found = {}
    for tensor in (graph.Tensors(i) for i in range(graph.TensorsLength())):
        quantization = tensor.Quantization()
        if quantization is not None and (count := quantization.ScaleLength()):
            found[tensor.Name().decode()] = {
                "dtype": _DTYPES[tensor.Type()],
                "scale": [float(quantization.Scale(i)) for i in range(count)],
                "zero_point": [int(quantization.ZeroPoint(i)) for i in range(quantization.ZeroPointLength())],
                "axis": int(quantization.QuantizedDimension()) if count > 1 else None,
            }
    return found
