"""A quantized softmax that gives the same bits on every processor.

TFLite has two int8 kernels of SOFTMAX: aarch64 builds look 16-bit values up in a table, all others add floats, so the
same file answers one step apart on a Raspberry Pi and on a PC, in one row of 500, and attention lets that grow. From
int8 to int16 SOFTMAX has one kernel only, and so has QUANTIZE from there back to int8.

Source: tensorflow/lite/kernels/activations.cc and internal/optimized/optimized_ops.h, TFLITE_SOFTMAX_USE_UINT16_LUT.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

# What the kernel's preparation asks of an int16 output: the whole range is [0, 1).
_SCALE, _ZERO_POINT = 1 / 65536, -32768
_VERSIONS = {schema.BuiltinOperator.SOFTMAX: 3, schema.BuiltinOperator.QUANTIZE: 2}  # the first with int16


def portable_softmax(content: bytes) -> bytes:
    """The .tflite file with every int8 SOFTMAX as SOFTMAX to int16 and QUANTIZE to int8; as it is where there is none."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if not sum(_replace(model, graph) for graph in model.subgraphs):
        return content
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _replace(model: Any, graph: Any) -> int:
    """How many there were."""
    operators = []
    for operator in graph.operators:
        operators.append(operator)
        if not _is_int8_softmax(model, graph, operator):
            continue
        result = operator.outputs[0]
        operator.opcodeIndex = _code(model, schema.BuiltinOperator.SOFTMAX)
        operator.outputs = [_int16_twin(graph, graph.tensors[result])]
        operators.append(_quantize(model, operator.outputs[0], result))
    found = len(operators) - len(graph.operators)
    graph.operators = operators
    return found


def _is_int8_softmax(model: Any, graph: Any, operator: Any) -> bool:
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    return code == schema.BuiltinOperator.SOFTMAX and graph.tensors[operator.outputs[0]].type == schema.TensorType.INT8


def _code(model: Any, builtin: int) -> int:
    """The index of that operator, in the version that takes int16; added where it is not there yet."""
    for index, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (builtin, _VERSIONS[builtin]):
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = _VERSIONS[builtin]
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _int16_twin(graph: Any, tensor: Any) -> int:
    twin = schema.TensorT()
    twin.name, twin.shape, twin.shapeSignature = tensor.name + b"/int16", tensor.shape, tensor.shapeSignature
    twin.hasRank, twin.type, twin.buffer = tensor.hasRank, schema.TensorType.INT16, 0
    twin.quantization = schema.QuantizationParametersT()
    twin.quantization.scale, twin.quantization.zeroPoint = [_SCALE], [_ZERO_POINT]
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _quantize(model: Any, source: int, result: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = _code(model, schema.BuiltinOperator.QUANTIZE)
    operator.inputs, operator.outputs = [source], [result]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator
